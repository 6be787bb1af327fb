use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, Set, sea_query::OnConflict};
use uuid::Uuid;

use super::now;
use crate::credential::{ActiveModel, Column, Entity, Model};

/// What users prove to be themselves with: one secret of each kind per user.
///
/// Secrets are stored as hashes only; hashing them is the application's part.
#[derive(Debug)]
pub struct Credentials<'a, C> {
    db: &'a C,
}

impl<'a, C: ConnectionTrait> Credentials<'a, C> {
    /// The credentials in `db`.
    pub const fn new(db: &'a C) -> Self {
        Self { db }
    }

    /// A user's credential of this kind.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, user_id: Uuid, kind: &str) -> Result<Option<Model>, DbErr> {
        Entity::find_by_id((user_id, kind.to_owned())).one(self.db).await
    }

    /// Sets a user's credential of this kind, whatever it was before.
    ///
    /// # Errors
    /// The database's; a foreign key violation if there is no such user.
    pub async fn set(&self, user_id: Uuid, kind: &str, secret_hash: &str) -> Result<(), DbErr> {
        let row = ActiveModel {
            user_id: Set(user_id),
            kind: Set(kind.to_owned()),
            secret_hash: Set(secret_hash.to_owned()),
            updated_at: Set(now()),
        };
        let overwrite = OnConflict::columns([Column::UserId, Column::Kind])
            .update_columns([Column::SecretHash, Column::UpdatedAt])
            .to_owned();
        let insert = Entity::insert(row).on_conflict(overwrite);
        insert.exec_without_returning(self.db).await.map(drop)
    }

    /// Removes a user's credential of this kind. Answers whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, user_id: Uuid, kind: &str) -> Result<bool, DbErr> {
        let delete = Entity::delete_by_id((user_id, kind.to_owned()));
        Ok(delete.exec(self.db).await?.rows_affected > 0)
    }
}
