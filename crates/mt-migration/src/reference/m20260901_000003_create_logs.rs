use sea_orm_migration::{
    prelude::*,
    schema::{big_pk_auto, string, text, timestamp_with_time_zone, uuid_null},
};

use super::m20260901_000001_create_users::Users;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let logs = Table::create()
            .table(Logs::Table)
            .col(big_pk_auto(Logs::Id))
            .col(uuid_null(Logs::UserId))
            .col(string(Logs::Kind))
            .col(text(Logs::Message))
            .col(timestamp_with_time_zone(Logs::CreatedAt))
            .foreign_key(
                ForeignKey::create()
                    .name("fk_logs_user_id")
                    .from(Logs::Table, Logs::UserId)
                    .to(Users::Table, Users::Id)
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .take();
        manager.create_table(logs).await?;
        // One user's newest entries are read by their id.
        let of_user = Index::create()
            .name("idx_logs_user_id_id")
            .table(Logs::Table)
            .col(Logs::UserId)
            .col(Logs::Id)
            .take();
        manager.create_index(of_user).await?;
        // Old entries are removed by their age.
        let by_age = Index::create()
            .name("idx_logs_created_at")
            .table(Logs::Table)
            .col(Logs::CreatedAt)
            .take();
        manager.create_index(by_age).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Logs::Table).take()).await
    }
}

#[derive(DeriveIden)]
enum Logs {
    Table,
    Id,
    UserId,
    Kind,
    Message,
    CreatedAt,
}
