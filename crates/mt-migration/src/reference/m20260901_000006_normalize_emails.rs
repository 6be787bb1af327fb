use sea_orm_migration::{prelude::*, schema::string_null};

use super::m20260901_000001_create_users::Users;

const INDEX: &str = "idx_users_email_normalized";

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// Two users may no longer have addresses that differ only by case. Where two have, the migration
/// fails and the tenant stays as it is until somebody has decided.
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Without NOT NULL: a program that does not know the column yet can still add users.
        let add =
            Table::alter().table(Users::Table).add_column(string_null(EmailNormalized)).take();
        manager.alter_table(add).await?;
        manager
            .get_connection()
            .execute_unprepared("UPDATE users SET email_normalized = lower(email)")
            .await?;
        let unique =
            Index::create().name(INDEX).table(Users::Table).col(EmailNormalized).unique().take();
        manager.create_index(unique).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(INDEX).table(Users::Table).to_owned()).await?;
        let drop = Table::alter().table(Users::Table).drop_column(EmailNormalized).take();
        manager.alter_table(drop).await
    }
}

#[derive(DeriveIden)]
struct EmailNormalized;
