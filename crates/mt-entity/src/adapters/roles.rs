use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, JoinType,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, RelationTrait as _, Set,
};
use uuid::Uuid;

use super::{CreateError, now};
use crate::{
    page::{Order, Page},
    role::{ActiveModel, Column, Entity, Model, Relation},
    user_role,
};

/// Roles, and whom they were granted to.
#[derive(Debug)]
pub struct Roles<'a, C> {
    db: &'a C,
}

/// A role to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRole {
    /// The name that programs ask for.
    pub name: String,
}

/// The row that [`Roles::create`] inserts, for a batch.
impl From<NewRole> for ActiveModel {
    fn from(role: NewRole) -> Self {
        Self { id: Set(Uuid::now_v7()), name: Set(role.name), created_at: Set(now()) }
    }
}

impl<'a, C: ConnectionTrait> Roles<'a, C> {
    /// The roles in `db`.
    pub const fn new(db: &'a C) -> Self {
        Self { db }
    }

    /// A part of the list, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, page: Page<String>) -> Result<Vec<Model>, DbErr> {
        page.read(Entity::find(), Column::Name, Order::Ascending, self.db).await
    }

    /// What was granted to a user, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_of(&self, user_id: Uuid) -> Result<Vec<Model>, DbErr> {
        Entity::find()
            .join(JoinType::InnerJoin, Relation::UserRoles.def())
            .filter(user_role::Column::UserId.eq(user_id))
            .order_by_asc(Column::Name)
            .all(self.db)
            .await
    }

    /// The role with this name.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_by_name(&self, name: &str) -> Result<Option<Model>, DbErr> {
        Entity::find().filter(Column::Name.eq(name)).one(self.db).await
    }

    /// Adds a role.
    ///
    /// # Errors
    /// [`CreateError::Taken`]: there is one with this name.
    pub async fn create(&self, name: &str) -> Result<Model, CreateError> {
        let row = ActiveModel::from(NewRole { name: name.to_owned() });
        row.insert(self.db).await.map_err(|e| CreateError::new(e, "name"))
    }

    /// Removes a role from everybody, and altogether. Answers whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete(&self, id: Uuid) -> Result<bool, DbErr> {
        Ok(Entity::delete_by_id(id).exec(self.db).await?.rows_affected > 0)
    }

    /// Grants a role to a user, who may have it already.
    ///
    /// # Errors
    /// The database's; a foreign key violation if there is no such user or role.
    pub async fn grant(&self, user_id: Uuid, role_id: Uuid) -> Result<(), DbErr> {
        let row = user_role::ActiveModel { user_id: Set(user_id), role_id: Set(role_id) };
        let key = [user_role::Column::UserId, user_role::Column::RoleId];
        let insert = user_role::Entity::insert(row).on_conflict_do_nothing_on(key);
        insert.exec_without_returning(self.db).await.map(drop)
    }

    /// Takes a role from a user. Answers whether the user had it.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke(&self, user_id: Uuid, role_id: Uuid) -> Result<bool, DbErr> {
        let delete = user_role::Entity::delete_by_id((user_id, role_id));
        Ok(delete.exec(self.db).await?.rows_affected > 0)
    }
}
