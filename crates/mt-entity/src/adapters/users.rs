use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _,
    ExprTrait as _, PaginatorTrait as _, QueryFilter as _, Set, sea_query::Expr,
};
use uuid::Uuid;

use super::{CreateError, now};
use crate::{
    page::{Order, Page},
    user::{ActiveModel, Column, Entity, Model},
};

/// The tenant's users.
#[derive(Debug)]
pub struct Users<'a, C> {
    db: &'a C,
}

/// A user to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// The address. Two that differ only by the case of `A` to `Z` are the same.
    pub email: String,
    /// How the user is called.
    pub name: String,
}

/// The row that [`Users::create`] inserts, for a batch.
impl From<NewUser> for ActiveModel {
    fn from(user: NewUser) -> Self {
        let now = now();
        Self {
            id: Set(Uuid::now_v7()),
            email_normalized: Set(Some(normalized(&user.email))),
            email: Set(user.email),
            name: Set(user.name),
            created_at: Set(now),
            updated_at: Set(now),
        }
    }
}

impl<'a, C: ConnectionTrait> Users<'a, C> {
    /// The users in `db`.
    pub const fn new(db: &'a C) -> Self {
        Self { db }
    }

    /// A part of the list, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, page: Page<Uuid>) -> Result<Vec<Model>, DbErr> {
        page.read(Entity::find(), Column::Id, Order::Ascending, self.db).await
    }

    /// How many there are.
    ///
    /// # Errors
    /// The database's.
    pub async fn count(&self) -> Result<u64, DbErr> {
        Entity::find().count(self.db).await
    }

    /// The user with this id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, id: Uuid) -> Result<Option<Model>, DbErr> {
        Entity::find_by_id(id).one(self.db).await
    }

    /// The user with this address, in whatever case.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_by_email(&self, email: &str) -> Result<Option<Model>, DbErr> {
        // A row of a program older than the normalized column is found by the exact address.
        let same = Condition::any()
            .add(Column::EmailNormalized.eq(normalized(email)))
            .add(Column::EmailNormalized.is_null().and(Column::Email.eq(email)));
        Entity::find().filter(same).one(self.db).await
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`CreateError::Taken`]: somebody has the address.
    pub async fn create(&self, user: NewUser) -> Result<Model, CreateError> {
        ActiveModel::from(user).insert(self.db).await.map_err(|e| CreateError::new(e, "email"))
    }

    /// Changes how a user is called. Answers whether there is one.
    ///
    /// # Errors
    /// The database's.
    pub async fn rename(&self, id: Uuid, name: &str) -> Result<bool, DbErr> {
        let update = Entity::update_many()
            .col_expr(Column::Name, Expr::value(name))
            .col_expr(Column::UpdatedAt, Expr::value(now()))
            .filter(Column::Id.eq(id));
        Ok(update.exec(self.db).await?.rows_affected > 0)
    }

    /// Removes a user with everything that is theirs: credentials, sessions, grants, log entries.
    /// Answers whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, id: Uuid) -> Result<bool, DbErr> {
        Ok(Entity::delete_by_id(id).exec(self.db).await?.rows_affected > 0)
    }
}

/// As SQLite's `lower` does it, which the migration used: other letters than `A` to `Z` stay.
fn normalized(email: &str) -> String {
    email.to_ascii_lowercase()
}
