use sea_orm_migration::{
    prelude::*,
    schema::{pk_uuid, string, string_uniq, text, timestamp_with_time_zone, uuid},
};

use super::m20260901_000001_create_users::Users;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One secret of each kind per user, and only its hash.
        let credentials = Table::create()
            .table(Credentials::Table)
            .col(uuid(Credentials::UserId))
            .col(string(Credentials::Kind))
            .col(text(Credentials::SecretHash))
            .col(timestamp_with_time_zone(Credentials::UpdatedAt))
            .primary_key(Index::create().col(Credentials::UserId).col(Credentials::Kind))
            .foreign_key(
                ForeignKey::create()
                    .name("fk_credentials_user_id")
                    .from(Credentials::Table, Credentials::UserId)
                    .to(Users::Table, Users::Id)
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .take();
        manager.create_table(credentials).await?;
        let sessions = Table::create()
            .table(Sessions::Table)
            .col(pk_uuid(Sessions::Id))
            .col(uuid(Sessions::UserId))
            .col(string_uniq(Sessions::TokenHash))
            .col(timestamp_with_time_zone(Sessions::CreatedAt))
            .col(timestamp_with_time_zone(Sessions::ExpiresAt))
            .foreign_key(
                ForeignKey::create()
                    .name("fk_sessions_user_id")
                    .from(Sessions::Table, Sessions::UserId)
                    .to(Users::Table, Users::Id)
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .take();
        manager.create_table(sessions).await?;
        let of_user = Index::create()
            .name("idx_sessions_user_id")
            .table(Sessions::Table)
            .col(Sessions::UserId)
            .take();
        manager.create_index(of_user).await?;
        let by_expiry = Index::create()
            .name("idx_sessions_expires_at")
            .table(Sessions::Table)
            .col(Sessions::ExpiresAt)
            .take();
        manager.create_index(by_expiry).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Sessions::Table).take()).await?;
        manager.drop_table(Table::drop().table(Credentials::Table).take()).await
    }
}

#[derive(DeriveIden)]
enum Credentials {
    Table,
    UserId,
    Kind,
    SecretHash,
    UpdatedAt,
}

#[derive(DeriveIden)]
enum Sessions {
    Table,
    Id,
    UserId,
    TokenHash,
    CreatedAt,
    ExpiresAt,
}
