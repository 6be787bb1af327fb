//! The table that checks write to, and the statements they use, in every dialect.

use mt_core::Connection;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    sea_query::{
        Alias, ColumnDef, Expr, ForeignKey, InsertStatement, Order, Query, SelectStatement, Table,
        TableCreateStatement,
    },
};

/// Id and note.
pub(crate) type Row = (i64, String);

pub(crate) const TABLE: &str = "mt_probe";
pub(crate) const CHILD: &str = "mt_probe_child";

/// The table that most checks write to: `id` is its key.
pub(crate) fn table() -> TableCreateStatement {
    table_called(TABLE)
}

pub(crate) fn table_called(name: &str) -> TableCreateStatement {
    Table::create()
        .table(Alias::new(name))
        .col(ColumnDef::new(Alias::new("id")).big_integer().not_null().primary_key())
        .col(ColumnDef::new(Alias::new("note")).text().not_null())
        .take()
}

/// A table each of whose rows refers to one of [`TABLE`].
pub(crate) fn child_table() -> TableCreateStatement {
    Table::create()
        .table(Alias::new(CHILD))
        .col(ColumnDef::new(Alias::new("id")).big_integer().not_null().primary_key())
        .col(ColumnDef::new(Alias::new("parent")).big_integer().not_null())
        .foreign_key(
            ForeignKey::create()
                .name("fk_mt_probe_child")
                .from(Alias::new(CHILD), Alias::new("parent"))
                .to(Alias::new(TABLE), Alias::new("id")),
        )
        .take()
}

pub(crate) fn row(id: i64, note: &str) -> Row {
    (id, note.to_owned())
}

fn inserting(id: i64, note: &str) -> InsertStatement {
    Query::insert()
        .into_table(Alias::new(TABLE))
        .columns(["id", "note"].map(Alias::new))
        .values_panic([Expr::val(id), Expr::val(note)])
        .take()
}

/// The statement that inserts one row, for its effect.
pub(crate) fn insertion(backend: DbBackend, id: i64, note: &str) -> Statement {
    backend.build(&inserting(id, note))
}

/// The statement that inserts one row and answers its id.
pub(crate) fn returning_insertion(backend: DbBackend, id: i64, note: &str) -> Statement {
    backend.build(inserting(id, note).returning_col(Alias::new("id")))
}

/// The statement that inserts one child.
pub(crate) fn child_insertion(backend: DbBackend, id: i64, parent: i64) -> Statement {
    let insert = Query::insert()
        .into_table(Alias::new(CHILD))
        .columns(["id", "parent"].map(Alias::new))
        .values_panic([Expr::val(id), Expr::val(parent)])
        .take();
    backend.build(&insert)
}

/// The statement that inserts the rows 1 to `last`, each with `note`.
pub(crate) fn series(backend: DbBackend, last: i64, note: &str) -> Statement {
    Statement::from_string(
        backend,
        format!(
            "INSERT INTO {TABLE} (id, note) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) \
             SELECT i, '{note}' FROM n"
        ),
    )
}

/// The query for all rows, in the order of their ids.
pub(crate) fn selection() -> SelectStatement {
    Query::select()
        .columns(["id", "note"].map(Alias::new))
        .from(Alias::new(TABLE))
        .order_by(Alias::new("id"), Order::Asc)
        .take()
}

/// The dialect of a handle; the method of that name is that of two traits.
pub(crate) fn backend<C: ConnectionTrait>(connection: &C) -> DbBackend {
    connection.get_database_backend()
}

pub(crate) async fn insert<C: ConnectionTrait>(
    connection: &C,
    id: i64,
    note: &str,
) -> Result<(), DbErr> {
    let statement = insertion(connection.get_database_backend(), id, note);
    connection.execute_raw(statement).await.map(drop)
}

pub(crate) async fn rows<C: ConnectionTrait>(connection: &C) -> Result<Vec<Row>, DbErr> {
    let found = connection.query_all(&selection()).await?;
    found.iter().map(decode).collect()
}

pub(crate) fn decode(row: &QueryResult) -> Result<Row, DbErr> {
    Ok((row.try_get("", "id")?, row.try_get("", "note")?))
}

/// Runs one statement for its effect on a connection that no handle guards.
pub(crate) async fn execute(
    connection: &Connection,
    statement: Statement,
) -> Result<ExecResult, DbErr> {
    match connection {
        Connection::SeaOrm(connection) => connection.execute_raw(statement).await,
        Connection::Driver(driver) => driver.execute(statement).await,
    }
}
