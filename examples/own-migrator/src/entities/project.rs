//! A project of the tenant.

use sea_orm::entity::prelude::*;

/// A row of `projects`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "projects")]
pub struct Model {
    /// Ascending in the order of creation.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// What it is called; two of one tenant cannot have the same name.
    #[sea_orm(unique)]
    pub name: String,
    /// Whether it is out of sight.
    pub archived: bool,
}

/// What refers to a project.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Its tasks.
    #[sea_orm(has_many = "super::task::Entity")]
    Tasks,
}

impl Related<super::task::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Tasks.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
