use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::NotSet, ColumnTrait as _, ConnectionTrait, DbErr,
    EntityTrait as _, QueryFilter as _, Set,
};
use uuid::Uuid;

use super::{exact, now};
use crate::{
    log::{ActiveModel, Column, Entity, Model},
    page::{Order, Page},
};

/// What happened.
#[derive(Debug)]
pub struct Logs<'a, C> {
    db: &'a C,
}

/// An entry to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLog {
    /// Who did it; `None`: nobody in particular.
    pub user_id: Option<Uuid>,
    /// What sort of thing it was.
    pub kind: String,
    /// What happened.
    pub message: String,
}

/// The row that [`Logs::create`] inserts, for a batch.
impl From<NewLog> for ActiveModel {
    fn from(log: NewLog) -> Self {
        Self {
            id: NotSet,
            user_id: Set(log.user_id),
            kind: Set(log.kind),
            message: Set(log.message),
            created_at: Set(now()),
        }
    }
}

impl<'a, C: ConnectionTrait> Logs<'a, C> {
    /// The entries in `db`.
    pub const fn new(db: &'a C) -> Self {
        Self { db }
    }

    /// A part of the list, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, page: Page<i64>) -> Result<Vec<Model>, DbErr> {
        page.read(Entity::find(), Column::Id, Order::Descending, self.db).await
    }

    /// A part of the list of what one user did, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_of(&self, user_id: Uuid, page: Page<i64>) -> Result<Vec<Model>, DbErr> {
        let select = Entity::find().filter(Column::UserId.eq(user_id));
        page.read(select, Column::Id, Order::Descending, self.db).await
    }

    /// The entry with this id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, id: i64) -> Result<Option<Model>, DbErr> {
        Entity::find_by_id(id).one(self.db).await
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// The database's; a foreign key violation if there is no such user.
    pub async fn create(&self, log: NewLog) -> Result<Model, DbErr> {
        ActiveModel::from(log).insert(self.db).await
    }

    /// Removes an entry. Answers whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, id: i64) -> Result<bool, DbErr> {
        Ok(Entity::delete_by_id(id).exec(self.db).await?.rows_affected > 0)
    }

    /// Removes what is older than `time`. Answers how many entries that were.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_before(&self, time: DateTime<Utc>) -> Result<u64, DbErr> {
        let delete = Entity::delete_many().filter(Column::CreatedAt.lt(exact(time)));
        Ok(delete.exec(self.db).await?.rows_affected)
    }
}
