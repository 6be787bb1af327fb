//! Something that happened.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// A row of `logs`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "logs")]
pub struct Model {
    /// Ascending in the order of writing.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Who did it; `None`: nobody in particular.
    pub user_id: Option<Uuid>,
    /// What sort of thing it was, in the application's words.
    pub kind: String,
    /// What happened.
    #[sea_orm(column_type = "Text")]
    pub message: String,
    /// When.
    pub created_at: DateTimeUtc,
}

/// What it refers to.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// The user; removing the user removes it.
    #[sea_orm(
        belongs_to = "super::user::Entity",
        from = "Column::UserId",
        to = "super::user::Column::Id",
        on_delete = "Cascade"
    )]
    User,
}

impl Related<super::user::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::User.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
