use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, Set, sea_query::OnConflict};

use super::now;
use crate::{
    page::{Order, Page},
    setting::{ActiveModel, Column, Entity, Model},
};

/// The tenant's settings.
#[derive(Debug)]
pub struct Settings<'a, C> {
    db: &'a C,
}

impl<'a, C: ConnectionTrait> Settings<'a, C> {
    /// The settings in `db`.
    pub const fn new(db: &'a C) -> Self {
        Self { db }
    }

    /// A part of the list, by key.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, page: Page<String>) -> Result<Vec<Model>, DbErr> {
        page.read(Entity::find(), Column::Key, Order::Ascending, self.db).await
    }

    /// What `key` is set to.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, key: &str) -> Result<Option<String>, DbErr> {
        let row = Entity::find_by_id(key).one(self.db).await?;
        Ok(row.map(|row| row.value))
    }

    /// Sets `key` to `value`, whatever it was set to before.
    ///
    /// # Errors
    /// The database's.
    pub async fn set(&self, key: &str, value: &str) -> Result<(), DbErr> {
        let row = ActiveModel {
            key: Set(key.to_owned()),
            value: Set(value.to_owned()),
            updated_at: Set(now()),
        };
        let overwrite = OnConflict::column(Column::Key)
            .update_columns([Column::Value, Column::UpdatedAt])
            .to_owned();
        let insert = Entity::insert(row).on_conflict(overwrite);
        insert.exec_without_returning(self.db).await.map(drop)
    }

    /// Removes a setting. Answers whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, key: &str) -> Result<bool, DbErr> {
        Ok(Entity::delete_by_id(key).exec(self.db).await?.rows_affected > 0)
    }
}
