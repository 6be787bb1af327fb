//! Something to be done in a project.

use sea_orm::entity::prelude::*;

/// A row of `tasks`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tasks")]
pub struct Model {
    /// Ascending in the order of creation.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The project it is part of.
    pub project_id: i64,
    /// What is to be done.
    #[sea_orm(column_type = "Text")]
    pub title: String,
    /// Whether it is done.
    pub done: bool,
}

/// What a task refers to.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Its project; removing the project removes it.
    #[sea_orm(
        belongs_to = "super::project::Entity",
        from = "Column::ProjectId",
        to = "super::project::Column::Id",
        on_delete = "Cascade"
    )]
    Project,
}

impl Related<super::project::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Project.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
