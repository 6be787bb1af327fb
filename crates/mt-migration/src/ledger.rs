//! SeaORM's own record of what is applied, in SeaORM's own shape: `sea-orm-cli` reads what the
//! runner writes, and the other way round.

use chrono::Utc;
use sea_orm::{
    ConnectionTrait, DbErr, Schema,
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
        let schema = Schema::new(db.get_database_backend());
        let mut table = schema.create_table_from_entity(Entity);
        db.execute(table.table(self.to_alias()).if_not_exists()).await?;
        let select = Query::select()
            .column(Alias::new(VERSION))
            .from(self.to_alias())
            .order_by(Alias::new(VERSION), Order::Asc)
            .take();
        let rows = db.query_all(&select).await?;
        rows.iter().map(|row| row.try_get("", VERSION)).collect()
    }

    /// Records `name` as applied now.
    pub(crate) async fn record<C: ConnectionTrait>(&self, db: &C, name: &str) -> Result<(), DbErr> {
        let insert = Query::insert()
            .into_table(self.to_alias())
            .columns([VERSION, APPLIED_AT].map(Alias::new))
            .values_panic([Expr::val(name), Expr::val(Utc::now().timestamp())])
            .take();
        db.execute(&insert).await.map(drop)
    }

    /// Takes the record of `name` out.
    pub(crate) async fn erase<C: ConnectionTrait>(&self, db: &C, name: &str) -> Result<(), DbErr> {
        let delete = Query::delete()
            .from_table(self.to_alias())
            .and_where(Expr::col(Alias::new(VERSION)).eq(name))
            .take();
        db.execute(&delete).await.map(drop)
    }
}
