use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_pk_auto, boolean, text},
};

use super::m20260301_000001_create_projects::Projects;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tasks = Table::create()
            .table(Tasks::Table)
            .col(big_pk_auto(Tasks::Id))
            .col(big_integer(Tasks::ProjectId))
            .col(text(Tasks::Title))
            .col(boolean(Tasks::Done).default(false))
            .foreign_key(
                ForeignKey::create()
                    .name("fk_tasks_project_id")
                    .from(Tasks::Table, Tasks::ProjectId)
                    .to(Projects::Table, Projects::Id)
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .take();
        manager.create_table(tasks).await?;
        let of_project = Index::create()
            .name("idx_tasks_project_id")
            .table(Tasks::Table)
            .col(Tasks::ProjectId)
            .take();
        manager.create_index(of_project).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Tasks::Table).take()).await
    }
}

#[derive(DeriveIden)]
enum Tasks {
    Table,
    Id,
    ProjectId,
    Title,
    Done,
}
