use sea_orm_migration::{
    prelude::*,
    schema::{big_pk_auto, string_uniq},
};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let projects = Table::create()
            .table(Projects::Table)
            .col(big_pk_auto(Projects::Id))
            .col(string_uniq(Projects::Name))
            .take();
        manager.create_table(projects).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Projects::Table).take()).await
    }
}

#[derive(DeriveIden)]
pub(super) enum Projects {
    Table,
    Id,
    Name,
}
