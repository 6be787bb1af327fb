//! A later release: the column has a default, so that rows that are there get one, and the release
//! before can go on writing rows while tenants are migrated.

use sea_orm_migration::{prelude::*, schema::boolean};

use super::m20260301_000001_create_projects::Projects;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add = Table::alter()
            .table(Projects::Table)
            .add_column(boolean(Archived).default(false))
            .take();
        manager.alter_table(add).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop = Table::alter().table(Projects::Table).drop_column(Archived).take();
        manager.alter_table(drop).await
    }
}

#[derive(DeriveIden)]
struct Archived;
