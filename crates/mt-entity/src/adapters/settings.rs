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

/// A setting to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSetting {
    /// What is set.
    pub key: String,
    /// What it is set to.
    pub value: String,
}

/// The row that [`Settings::set`] inserts, for a batch.
impl From<NewSetting> for ActiveModel {
    fn from(setting: NewSetting) -> Self {
        Self { key: Set(setting.key), value: Set(setting.value), updated_at: Set(now()) }
    }
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
        let row = ActiveModel::from(NewSetting { key: key.to_owned(), value: value.to_owned() });
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
