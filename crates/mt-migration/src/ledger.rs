//! SeaORM's own record of what is applied, in SeaORM's own shape: `sea-orm-cli` reads what the
//! runner writes, and the other way round.

use chrono::Utc;
use mt_core::Driver;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, QueryResult, Schema, Statement,
    sea_query::{Alias, Expr, ExprTrait as _, Order, Query},
};
use sea_orm_migration::seaql_migrations::Entity;

const VERSION: &str = "version";
const APPLIED_AT: &str = "applied_at";

/// The table in which applied migrations are recorded.
#[derive(Debug)]
pub(crate) struct Ledger(String);

impl Ledger {
    pub(crate) const fn new(table: String) -> Self {
        Self(table)
    }

    pub(crate) fn table(&self) -> &str {
        &self.0
    }

    fn to_alias(&self) -> Alias {
        Alias::new(&self.0)
    }

    /// Makes the table if it is not there, and reads the names in it.
    pub(crate) async fn open<C: ConnectionTrait>(&self, db: &C) -> Result<Vec<String>, DbErr> {
        let backend = db.get_database_backend();
        db.execute_raw(self.create(backend)).await?;
        names(&db.query_all_raw(self.select(backend)).await?)
    }

    /// Records `name` as applied now.
    pub(crate) async fn record<C: ConnectionTrait>(&self, db: &C, name: &str) -> Result<(), DbErr> {
        db.execute_raw(self.insert(db.get_database_backend(), name)).await.map(drop)
    }

    /// Takes the record of `name` out.
    pub(crate) async fn erase<C: ConnectionTrait>(&self, db: &C, name: &str) -> Result<(), DbErr> {
        db.execute_raw(self.delete(db.get_database_backend(), name)).await.map(drop)
    }

    /// Reads the names in it over a driver; none where there is no such table.
    pub(crate) async fn read(&self, driver: &dyn Driver) -> Result<Vec<String>, DbErr> {
        match driver.query(self.select(driver.backend())).await {
            Ok(rows) => names(&rows),
            Err(error) if error.to_string().contains("no such table") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The statement that makes the table if it is not there.
    pub(crate) fn create(&self, backend: DbBackend) -> Statement {
        let mut table = Schema::new(backend).create_table_from_entity(Entity);
        backend.build(table.table(self.to_alias()).if_not_exists())
    }

    /// The statement that records `name` as applied now.
    pub(crate) fn insert(&self, backend: DbBackend, name: &str) -> Statement {
        let insert = Query::insert()
            .into_table(self.to_alias())
            .columns([VERSION, APPLIED_AT].map(Alias::new))
            .values_panic([Expr::val(name), Expr::val(Utc::now().timestamp())])
            .take();
        backend.build(&insert)
    }

    /// The statement that takes the record of `name` out.
    pub(crate) fn delete(&self, backend: DbBackend, name: &str) -> Statement {
        let delete = Query::delete()
            .from_table(self.to_alias())
            .and_where(Expr::col(Alias::new(VERSION)).eq(name))
            .take();
        backend.build(&delete)
    }

    fn select(&self, backend: DbBackend) -> Statement {
        let select = Query::select()
            .column(Alias::new(VERSION))
            .from(self.to_alias())
            .order_by(Alias::new(VERSION), Order::Asc)
            .take();
        backend.build(&select)
    }
}

fn names(rows: &[QueryResult]) -> Result<Vec<String>, DbErr> {
    rows.iter().map(|row| row.try_get("", VERSION)).collect()
}
