//! A name for what its users may do.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// A row of `roles`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "roles")]
pub struct Model {
    /// Ordered by time: a version 7 UUID.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The name that programs ask for.
    #[sea_orm(unique)]
    pub name: String,
    /// When the role was added.
    pub created_at: DateTimeUtc,
}

/// What refers to a role.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Whom it was granted to.
    #[sea_orm(has_many = "super::user_role::Entity")]
    UserRoles,
}

impl Related<super::user::Entity> for Entity {
    fn to() -> RelationDef {
        super::user_role::Relation::User.def()
    }

    fn via() -> Option<RelationDef> {
        Some(Relation::UserRoles.def())
    }
}

impl ActiveModelBehavior for ActiveModel {}
