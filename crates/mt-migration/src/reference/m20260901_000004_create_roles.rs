use sea_orm_migration::{
    prelude::*,
    schema::{pk_uuid, string_uniq, timestamp_with_time_zone, uuid},
};

use super::m20260901_000001_create_users::Users;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let roles = Table::create()
            .table(Roles::Table)
            .col(pk_uuid(Roles::Id))
            .col(string_uniq(Roles::Name))
            .col(timestamp_with_time_zone(Roles::CreatedAt))
            .take();
        manager.create_table(roles).await?;
        let user_roles = Table::create()
            .table(UserRoles::Table)
            .col(uuid(UserRoles::UserId))
            .col(uuid(UserRoles::RoleId))
            .primary_key(Index::create().col(UserRoles::UserId).col(UserRoles::RoleId))
            .foreign_key(
                ForeignKey::create()
                    .name("fk_user_roles_user_id")
                    .from(UserRoles::Table, UserRoles::UserId)
                    .to(Users::Table, Users::Id)
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .foreign_key(
                ForeignKey::create()
                    .name("fk_user_roles_role_id")
                    .from(UserRoles::Table, UserRoles::RoleId)
                    .to(Roles::Table, Roles::Id)
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .take();
        manager.create_table(user_roles).await?;
        // The primary key finds a user's roles; this one finds a role's users.
        let of_role = Index::create()
            .name("idx_user_roles_role_id")
            .table(UserRoles::Table)
            .col(UserRoles::RoleId)
            .take();
        manager.create_index(of_role).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(UserRoles::Table).take()).await?;
        manager.drop_table(Table::drop().table(Roles::Table).take()).await
    }
}

#[derive(DeriveIden)]
enum Roles {
    Table,
    Id,
    Name,
    CreatedAt,
}

#[derive(DeriveIden)]
enum UserRoles {
    Table,
    UserId,
    RoleId,
}
