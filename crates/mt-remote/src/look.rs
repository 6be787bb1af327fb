use mt_core::{Driver, Error, ErrorKind, Result, Stamp, TenantId};
use sea_orm::{
    DbBackend, DbErr, QueryResult, Statement,
    sea_query::{Alias, Query, SqliteQueryBuilder},
};

/// What a look at a database of the SQLite dialect tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is somebody's.
    Stamped {
        /// Whose.
        stamp: Stamp,
        /// The applied migrations in ascending order; none where there is no ledger.
        applied: Vec<String>,
    },
    /// Made for a tenant, and not yet given to one: the stamp's table is there and empty.
    Unassigned,
    /// No table at all.
    Empty,
    /// Tables, and no stamp among them.
    Unstamped,
}

impl Look {
    /// The columns of [`Look::select`].
    pub const COLUMNS: [&'static str; 5] =
        ["applied", "tenant", "deployment", "created_at", "generation"];

    /// What a stamped database is asked: its stamp, and all names in `ledger` as one JSON array.
    pub fn select(ledger: Option<&str>) -> Statement {
        let stamp = Stamp::select(DbBackend::Sqlite, None).sql;
        let applied = match ledger {
            Some(ledger) => {
                let mut versions = Query::select();
                versions.expr(sea_orm::sea_query::Expr::cust(r#"json_group_array("version")"#));
                let versions = versions.from(Alias::new(ledger)).to_string(SqliteQueryBuilder);
                format!("({versions})")
            }
            None => "NULL".to_owned(),
        };
        // The stamp's own query begins with its columns; one more goes before them.
        let sql = stamp.replacen("SELECT ", &format!(r#"SELECT {applied} AS "applied", "#), 1);
        Statement::from_string(DbBackend::Sqlite, sql)
    }

    /// Looks: one query at a stamped database, up to three at others.
    ///
    /// # Errors
    /// `Corrupt`: a damaged stamp. The driver's, where it gives one of ours; else `Unavailable`.
    pub async fn at(driver: &dyn Driver, ledger: Option<&str>) -> Result<Self> {
        match Self::at_once(driver, ledger).await {
            // Between two of the queries somebody may have stamped it.
            Err(e) if e.kind() == ErrorKind::Corrupt => Self::at_once(driver, ledger).await,
            look => look,
        }
    }

    async fn at_once(driver: &dyn Driver, ledger: Option<&str>) -> Result<Self> {
        let rows = match (driver.query(Self::select(ledger)).await, ledger) {
            // Perhaps only the ledger is missing; the stamp decides.
            (Err(e), Some(_)) if is_refusal(&e) => driver.query(Self::select(None)).await,
            (rows, _) => rows,
        };
        match rows {
            Ok(rows) => match rows.as_slice() {
                [row] => Self::from_row(row),
                [] => Ok(Self::Unassigned),
                _ => Err(damaged("more than one row")),
            },
            Err(e) if is_refusal(&e) => Self::at_unstamped(driver).await,
            Err(e) => Err(unread(e)),
        }
    }

    async fn at_unstamped(driver: &dyn Driver) -> Result<Self> {
        let objects = r#"SELECT COUNT(*) AS "objects", COALESCE(SUM("name" = ?1), 0) AS "stamps" FROM "sqlite_master" WHERE "name" NOT LIKE '\_cf\_%' ESCAPE '\'"#;
        let objects =
            Statement::from_sql_and_values(DbBackend::Sqlite, objects, [Stamp::TABLE.into()]);
        let rows = driver.query(objects).await.map_err(unread)?;
        let row = rows.first().ok_or_else(|| damaged("no answer"))?;
        let count = |column: &str| row.try_get::<i64>("", column).map_err(unread);
        match (count("objects")?, count("stamps")?) {
            (0, _) => Ok(Self::Empty),
            (_, 0) => Ok(Self::Unstamped),
            // The table is there, and still its columns cannot be read.
            _ => Err(damaged("its columns")),
        }
    }

    fn from_row(row: &QueryResult) -> Result<Self> {
        let text = |column: &str| {
            row.try_get::<String>("", column).map_err(|e| damaged(column).with_source(e))
        };
        let generation = row
            .try_get::<i64>("", "generation")
            .map_err(|e| damaged("generation").with_source(e))?;
        let applied: Option<String> =
            row.try_get("", "applied").map_err(|e| damaged("applied").with_source(e))?;
        let mut applied: Vec<String> = match applied {
            Some(applied) => {
                serde_json::from_str(&applied).map_err(|e| damaged("applied").with_source(e))?
            }
            None => Vec::new(),
        };
        applied.sort_unstable();
        let stamp = Stamp::from_columns(
            &text("tenant")?,
            &text("deployment")?,
            &text("created_at")?,
            generation,
        )?;
        Ok(Self::Stamped { stamp, applied })
    }

    /// The stamp and the applied migrations.
    ///
    /// # Errors
    /// `ForeignDatabase`: there is no stamp.
    pub fn stamped(self, tenant: &TenantId) -> Result<(Stamp, Vec<String>)> {
        match self {
            Self::Stamped { stamp, applied } => Ok((stamp, applied)),
            Self::Unassigned | Self::Empty | Self::Unstamped => Err(Stamp::missing(tenant)),
        }
    }
}

/// Whether the database answered, and refused the statement: then a table is not there.
fn is_refusal(error: &DbErr) -> bool {
    Error::in_db_err(error).is_none_or(|error| error.kind() == ErrorKind::Statement)
}

fn unread(error: DbErr) -> Error {
    Error::from_db_err(error, ErrorKind::Unavailable, "cannot read the database's stamp")
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the database's stamp is damaged: {what}"))
}
