//! A person or a program that signs in.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// A row of `users`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// Ordered by time: a version 7 UUID.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The address as it was given.
    #[sea_orm(unique)]
    pub email: String,
    /// How the user is called.
    pub name: String,
    /// When the user was added.
    pub created_at: DateTimeUtc,
    /// When the row last changed.
    pub updated_at: DateTimeUtc,
    /// The address in lower case, by which users are told apart. `None`: the row was written by a
    /// program older than this column.
    #[sea_orm(unique)]
    pub email_normalized: Option<String>,
}

/// What refers to a user.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// The user's secrets.
    #[sea_orm(has_many = "super::credential::Entity")]
    Credentials,
    /// What the user did.
    #[sea_orm(has_many = "super::log::Entity")]
    Logs,
    /// Where the user is signed in.
    #[sea_orm(has_many = "super::session::Entity")]
    Sessions,
    /// What was granted to the user.
    #[sea_orm(has_many = "super::user_role::Entity")]
    UserRoles,
}

impl Related<super::credential::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Credentials.def()
    }
}

impl Related<super::log::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Logs.def()
    }
}

impl Related<super::session::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Sessions.def()
    }
}

impl Related<super::role::Entity> for Entity {
    fn to() -> RelationDef {
        super::user_role::Relation::Role.def()
    }

    fn via() -> Option<RelationDef> {
        Some(Relation::UserRoles.def())
    }
}

impl ActiveModelBehavior for ActiveModel {}
