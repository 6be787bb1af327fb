use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _,
    QueryFilter as _, Set,
};
use uuid::Uuid;

use super::{exact, now};
use crate::session::{ActiveModel, Column, Entity, Model};

/// Where users are signed in.
///
/// Tokens are stored as hashes only; hashing them is the application's part.
#[derive(Debug)]
pub struct Sessions<'a, C> {
    db: &'a C,
}

impl<'a, C: ConnectionTrait> Sessions<'a, C> {
    /// The sessions in `db`.
    pub const fn new(db: &'a C) -> Self {
        Self { db }
    }

    /// The session of the token with this hash, unless it has expired.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, token_hash: &str) -> Result<Option<Model>, DbErr> {
        Entity::find()
            .filter(Column::TokenHash.eq(token_hash))
            .filter(Column::ExpiresAt.gt(now()))
            .one(self.db)
            .await
    }

    /// Signs a user in until `expires_at`.
    ///
    /// # Errors
    /// The database's; a foreign key violation if there is no such user.
    pub async fn create(
        &self,
        user_id: Uuid,
        token_hash: &str,
        expires_at: DateTime<Utc>,
    ) -> Result<Model, DbErr> {
        let row = ActiveModel {
            id: Set(Uuid::now_v7()),
            user_id: Set(user_id),
            token_hash: Set(token_hash.to_owned()),
            created_at: Set(now()),
            expires_at: Set(exact(expires_at)),
        };
        row.insert(self.db).await
    }

    /// Signs a user out of one session. Answers whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, id: Uuid) -> Result<bool, DbErr> {
        Ok(Entity::delete_by_id(id).exec(self.db).await?.rows_affected > 0)
    }

    /// Signs a user out everywhere. Answers of how many sessions.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_of(&self, user_id: Uuid) -> Result<u64, DbErr> {
        let delete = Entity::delete_many().filter(Column::UserId.eq(user_id));
        Ok(delete.exec(self.db).await?.rows_affected)
    }

    /// Removes what has expired. Answers how many sessions that were.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_expired(&self) -> Result<u64, DbErr> {
        let delete = Entity::delete_many().filter(Column::ExpiresAt.lte(now()));
        Ok(delete.exec(self.db).await?.rows_affected)
    }
}
