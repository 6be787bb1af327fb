//! The catalog's own migrations. Portable: a PostgreSQL catalog will run the same.

#![expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves them out, and its macro must see the same"
)]

use sea_orm_migration::prelude::*;

#[derive(Debug)]
pub(crate) struct CatalogMigrator;

impl MigratorTrait for CatalogMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(M20260101_000001CreateCatalog)]
    }
}

#[derive(Debug)]
struct M20260101_000001CreateCatalog;

impl MigrationName for M20260101_000001CreateCatalog {
    fn name(&self) -> &str {
        "m20260101_000001_create_catalog"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for M20260101_000001CreateCatalog {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let required = |name: &str| ColumnDef::new(Alias::new(name)).string().not_null().take();
        let optional = |name: &str| ColumnDef::new(Alias::new(name)).string().take();
        let moment = |name: &str| {
            ColumnDef::new(Alias::new(name)).timestamp_with_time_zone().not_null().take()
        };
        let deployment = Table::create()
            .table(Alias::new("deployment"))
            .col(ColumnDef::new(Alias::new("number")).integer().not_null().primary_key())
            .col(required("id"))
            .col(moment("created_at"))
            .take();
        let tenant = Table::create()
            .table(Alias::new("tenant"))
            .col(required("id").primary_key())
            .col(required("folded").unique_key())
            .col(required("provider"))
            .col(required("state"))
            .col(ColumnDef::new(Alias::new("generation")).big_integer().not_null())
            .col(optional("database_name"))
            .col(ColumnDef::new(Alias::new("attributes")).text().not_null())
            .col(optional("secret_ref"))
            .col(optional("schema_version"))
            .col(optional("schema_fingerprint"))
            .col(ColumnDef::new(Alias::new("last_error")).text())
            .col(ColumnDef::new(Alias::new("restoring")).boolean().not_null())
            .col(moment("created_at"))
            .col(moment("updated_at"))
            .take();
        manager.create_table(deployment).await?;
        manager.create_table(tenant).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["tenant", "deployment"] {
            manager.drop_table(Table::drop().table(Alias::new(table)).take()).await?;
        }
        Ok(())
    }
}
