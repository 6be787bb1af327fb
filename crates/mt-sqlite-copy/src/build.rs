use std::collections::BTreeSet;

use mt_core::ErrorKind;
use rusqlite::{Connection, params_from_iter, types::Value};

use crate::{
    Built, Contents, ScratchFile,
    contents::quoted,
    error::{Error, Result, sqlite_kind},
    tables::{SEQUENCE, Table, TableRows, tables},
    verify::PAGE_BYTES,
};

/// A row of a database's `sqlite_master`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaObject {
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The table or view it belongs to.
    pub table: String,
    /// The statement that makes it; the indexes of keys have none.
    pub sql: Option<String>,
}

impl SchemaObject {
    /// What [`FileBuilder`] needs to know of a schema, in the order of these fields.
    pub const SELECT: &'static str =
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid";

    fn is_ours_to_make(&self) -> bool {
        self.sql.is_some() && !self.name.starts_with("sqlite_")
    }

    fn is_virtual(&self) -> bool {
        let sql = self.sql.as_deref().unwrap_or_default();
        sql.get(..14).is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL"))
    }

    fn to_text(&self) -> String {
        format!("the {} `{}`", self.kind, self.name)
    }

    fn make(&self, connection: &Connection) -> Result<()> {
        let sql = self.sql.as_deref().unwrap_or_default();
        // SQLite runs one statement of a text here, and a schema holds no other kind.
        if !sql.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("CREATE ")) {
            return Err(Error::Differs(self.to_text()));
        }
        match connection.execute(sql, []) {
            Ok(_) => Ok(()),
            // Such as a module or a function that the source has and this SQLite does not.
            Err(source) if sqlite_kind(source.sqlite_error_code()) == ErrorKind::Internal => {
                Err(Error::Object { object: self.to_text(), source })
            }
            Err(source) => Err(Error::sqlite("make the tables of the copy")(source)),
        }
    }
}

/// Makes a SQLite file from another database's schema and its rows.
///
/// Rows are what they were: number, storage class and order included. The file has pages of 4096
/// bytes, UTF-8 text and no auto-vacuum. What `ANALYZE` gathered at the source is left out.
#[derive(Debug)]
pub struct FileBuilder {
    // Before the file, so that it is closed before it is removed.
    connection: Connection,
    file: ScratchFile,
    tables: Vec<Table>,
    /// Indexes, views and triggers. With the rows there, indexes are made faster; and no trigger
    /// may see the rows come.
    later: Vec<SchemaObject>,
    /// The rows of [`SEQUENCE`], which changes by itself as others come.
    sequences: Vec<Vec<Value>>,
}

impl FileBuilder {
    /// Makes the tables. `schema` is what [`SchemaObject::SELECT`] answers at the source.
    ///
    /// Blocks.
    ///
    /// # Errors
    /// `Unsupported`, naming the object: this SQLite cannot make it, or makes another in its place,
    /// so that an exact copy is not to be had. `QuotaExceeded`: no room for the file.
    pub fn create(file: ScratchFile, schema: &[SchemaObject]) -> mt_core::Result<Self> {
        let connection = Connection::open(file.path()).map_err(preparing())?;
        // Nobody will miss half a copy. The journal is for taking the trial below back.
        let settings = format!(
            "PRAGMA page_size = {PAGE_BYTES}; PRAGMA encoding = 'UTF-8'; PRAGMA auto_vacuum = 0;
             PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;
             PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;
             BEGIN;"
        );
        connection.execute_batch(&settings).map_err(preparing())?;
        let own = schema.iter().filter(|object| object.is_ours_to_make());
        let (first, later): (Vec<_>, Vec<_>) = own.cloned().partition(|o| o.kind == "table");
        if schema.iter().any(|object| object.name == SEQUENCE) {
            // It comes with the first table that needs it, which may be gone again.
            let make = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT); DROP TABLE t;";
            connection.execute_batch(make).map_err(preparing())?;
        }
        make_tables(&connection, &first)?;
        try_all(&connection, &first, &later)?;
        let tables = tables(&connection)?;
        for table in &tables {
            // What virtual tables began theirs with; the source's is complete.
            connection
                .execute(&format!("DELETE FROM {}", quoted(&table.name)), [])
                .map_err(preparing())?;
        }
        Ok(Self { connection, file, tables, later, sequences: Vec::new() })
    }

    /// The queries to run at the source, all on the state that the schema was read of. The rows of
    /// each go to [`FileBuilder::insert`] with the place of their query, as they come: infinite
    /// numbers come escaped, because not every protocol can carry them.
    pub fn queries(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.select.clone()).collect()
    }

    /// The tables whose rows [`FileBuilder::queries`] read, in the same order.
    pub fn tables(&self) -> Vec<TableRows> {
        self.tables.iter().map(|table| table.rows.clone()).collect()
    }

    /// Takes rows that come exactly, and not of [`FileBuilder::queries`]: no text in them is an
    /// escaped number. They are the values of [`TableRows::columns`].
    #[must_use]
    pub fn expecting_exact_rows(mut self) -> Self {
        self.tables.iter_mut().for_each(Table::expect_exact);
        self
    }

    /// Adds a row of the query at place `query`. Blocks.
    ///
    /// # Errors
    /// `Internal`: there is no such query, or its rows have another length. `QuotaExceeded`.
    pub fn insert(&mut self, query: usize, row: Vec<Value>) -> mt_core::Result<()> {
        let table = self.tables.get(query);
        match table {
            Some(table) if table.width() == row.len() => {}
            _ => {
                return Err(Error::Row {
                    table: table.map_or_else(|| format!("query {query}"), |t| t.name.clone()),
                    found: row.len(),
                    expected: table.map_or(0, Table::width),
                }
                .into());
            }
        }
        let Some(table) = table.filter(|table| table.name != SEQUENCE) else {
            self.sequences.push(row);
            return Ok(());
        };
        let writing = || Error::sqlite("write the rows of the copy");
        let mut insert = self.connection.prepare_cached(&table.insert).map_err(writing())?;
        insert.execute(params_from_iter(table.unescaped(row))).map_err(writing())?;
        Ok(())
    }

    /// Adds what comes after the rows, and closes the file. `ledger` is the table of the applied
    /// migrations. Blocks.
    ///
    /// # Errors
    /// `QuotaExceeded`; or there is no such ledger.
    pub fn finish(self, ledger: Option<&str>) -> mt_core::Result<Built> {
        let Self { connection, file, tables, later, sequences } = self;
        let finishing = || Error::sqlite("finish the copy");
        if let Some(table) = tables.iter().find(|table| table.name == SEQUENCE) {
            connection.execute(&format!("DELETE FROM {SEQUENCE}"), []).map_err(finishing())?;
            for row in sequences {
                let row = params_from_iter(table.unescaped(row));
                connection.execute(&table.insert, row).map_err(finishing())?;
            }
        }
        for object in &later {
            object.make(&connection)?;
        }
        // A file without a log beside it can be read where nothing can be written.
        let settings = "COMMIT; PRAGMA journal_mode = DELETE;";
        connection.execute_batch(settings).map_err(finishing())?;
        let contents = Contents::read(&connection, ledger)?;
        connection.close().map_err(|(_, e)| finishing()(e))?;
        Ok(Built { file, contents })
    }
}

fn preparing() -> impl FnOnce(rusqlite::Error) -> Error {
    Error::sqlite("make the tables of the copy")
}

/// Makes tables so that each virtual one finds what it refers to, and not yet the ones that it makes
/// itself.
fn make_tables(connection: &Connection, tables: &[SchemaObject]) -> Result<()> {
    let lower = |object: &SchemaObject| object.name.to_ascii_lowercase();
    let virtual_names: Vec<String> =
        tables.iter().filter(|table| table.is_virtual()).map(|t| lower(t) + "_").collect();
    let may_be_shadow =
        |table: &SchemaObject| virtual_names.iter().any(|name| lower(table).starts_with(name));
    let (shadows, others): (Vec<_>, Vec<_>) =
        tables.iter().partition(|table| !table.is_virtual() && may_be_shadow(table));
    let (virtuals, ordinary): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|table| table.is_virtual());
    for table in ordinary.into_iter().chain(virtuals) {
        table.make(connection)?;
    }
    let there = names(connection)?;
    for table in shadows.into_iter().filter(|table| !there.contains(&table.name)) {
        table.make(connection)?;
    }
    Ok(())
}

fn names(connection: &Connection) -> Result<BTreeSet<String>> {
    Ok(made(connection)?.into_iter().map(|object| object.name).collect())
}

/// Makes everything, compares it with what was asked for, and takes the rest back: what cannot be
/// copied is told before its rows are fetched.
fn try_all(connection: &Connection, first: &[SchemaObject], later: &[SchemaObject]) -> Result<()> {
    connection.execute_batch("SAVEPOINT trial").map_err(preparing())?;
    for object in later {
        object.make(connection)?;
    }
    let made: BTreeSet<SchemaObject> = made(connection)?.into_iter().collect();
    let wanted: BTreeSet<SchemaObject> = first.iter().chain(later).cloned().collect();
    if let Some(object) = wanted.symmetric_difference(&made).next() {
        return Err(Error::Differs(object.to_text()));
    }
    connection.execute_batch("ROLLBACK TO trial; RELEASE trial").map_err(preparing())
}

fn made(connection: &Connection) -> Result<Vec<SchemaObject>> {
    let read = || {
        let mut query = connection.prepare(SchemaObject::SELECT)?;
        let objects = query.query_map([], |row| {
            Ok(SchemaObject {
                kind: row.get(0)?,
                name: row.get(1)?,
                table: row.get(2)?,
                sql: row.get(3)?,
            })
        })?;
        objects.collect::<Result<Vec<_>, _>>()
    };
    let objects = read().map_err(preparing())?;
    Ok(objects.into_iter().filter(SchemaObject::is_ours_to_make).collect())
}
