use chrono::{DateTime, SubsecRound as _, Utc};
use sea_orm::{
    DbBackend, DbErr, QueryResult, Statement,
    sea_query::{Alias, ColumnDef, Expr, ExprTrait, InsertStatement, OnConflict, Query, Table},
};
use serde::{Deserialize, Serialize};

use crate::{Connections, DeploymentId, Error, ErrorKind, Generation, Result, TenantId};

/// Whose database this is, written into the database itself.
///
/// A name, a file or a catalog row can point at the wrong database; the stamp cannot be wrong with
/// them. It is checked each time a database is opened, and before one is removed or replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The installation it belongs to.
    pub deployment: DeploymentId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Which of the tenant's successive databases it is.
    pub generation: Generation,
    /// When it was provisioned or restored, to the second.
    pub created_at: DateTime<Utc>,
}

/// What a cold open reads: the stamp, and how far the schema is.
#[derive(Clone, Debug)]
pub(crate) struct StampRow {
    pub(crate) stamp: Stamp,
    pub(crate) schema_version: Option<String>,
}

impl Stamp {
    /// The table that holds it, in one row.
    pub const TABLE: &'static str = "_mt_tenant";

    /// The stamp of a database made now.
    pub fn new(deployment: DeploymentId, tenant: &TenantId, generation: Generation) -> Self {
        Self {
            deployment,
            tenant: tenant.clone(),
            generation,
            created_at: Utc::now().trunc_subsecs(0),
        }
    }

    /// The statements that write it into a database that has none. Where somebody else was faster
    /// theirs stays: read it back and check it.
    ///
    /// They also make the (empty) migration ledger `ledger` where it is missing, so that stamp and
    /// schema version can be read in one query from then on. Values stand in the text: there are
    /// no parameters to bind.
    pub fn to_statements(&self, backend: DbBackend, ledger: Option<&str>) -> Vec<Statement> {
        let mut statements = Self::to_tables(backend, ledger);
        let first = OnConflict::column(Alias::new("one")).do_nothing().to_owned();
        let insert = self.insert().on_conflict(first).to_owned();
        statements.push(Statement::from_string(backend, to_text(backend, &insert)));
        statements
    }

    /// The statements that make its table, and the ledger, where they are missing: what a template
    /// is given, which is nobody's yet.
    pub fn to_tables(backend: DbBackend, ledger: Option<&str>) -> Vec<Statement> {
        let mut table = Table::create();
        table.table(Alias::new(Self::TABLE)).if_not_exists();
        // There cannot be two: of two who stamp at once, one finds the other's.
        let one = Expr::col(Alias::new("one"));
        table.col(
            ColumnDef::new(Alias::new("one")).integer().not_null().primary_key().check(one.eq(1)),
        );
        for column in ["tenant", "deployment", "created_at"] {
            table.col(ColumnDef::new(Alias::new(column)).string().not_null());
        }
        table.col(ColumnDef::new(Alias::new("generation")).big_integer().not_null());
        let mut statements = vec![backend.build(&table)];
        if let Some(ledger) = ledger {
            // The shape is SeaORM's, so that its own migrator finds its table.
            let mut table = Table::create();
            table
                .table(Alias::new(ledger))
                .if_not_exists()
                .col(ColumnDef::new(Alias::new("version")).string().not_null().primary_key())
                .col(ColumnDef::new(Alias::new("applied_at")).big_integer().not_null());
            statements.push(backend.build(&table));
        }
        statements
    }

    /// The statements that put it in the place of another stamp, in a database that was cloned or
    /// restored.
    pub fn to_replacing_statements(&self, backend: DbBackend) -> Vec<Statement> {
        let delete = Query::delete().from_table(Alias::new(Self::TABLE)).to_owned();
        [to_text(backend, &delete), to_text(backend, &self.insert())]
            .map(|sql| Statement::from_string(backend, sql))
            .into()
    }

    fn insert(&self) -> InsertStatement {
        Query::insert()
            .into_table(Alias::new(Self::TABLE))
            .columns(["one", "tenant", "deployment", "created_at", "generation"].map(Alias::new))
            .values_panic([
                Expr::val(1),
                Expr::val(self.tenant.as_str()),
                Expr::val(self.deployment.to_string()),
                Expr::val(self.created_at.to_rfc3339()),
                Expr::val(i64::from(self.generation.get())),
            ])
            .to_owned()
    }

    /// The query that reads it: columns `tenant`, `deployment`, `created_at`, `generation`, and
    /// `schema_version`, the newest entry of `ledger`.
    pub fn select(backend: DbBackend, ledger: Option<&str>) -> Statement {
        let mut select = Query::select();
        select
            .columns(["tenant", "deployment", "created_at", "generation"].map(Alias::new))
            .from(Alias::new(Self::TABLE));
        if let Some(ledger) = ledger {
            let newest = Query::select()
                .expr(Expr::col(Alias::new("version")).max())
                .from(Alias::new(ledger))
                .take();
            select.expr_as(newest, Alias::new("schema_version"));
        }
        backend.build(&select)
    }

    /// The stamp from its columns as text and number.
    ///
    /// # Errors
    /// `Corrupt`, naming the column.
    pub fn from_columns(
        tenant: &str,
        deployment: &str,
        created_at: &str,
        generation: i64,
    ) -> Result<Self> {
        let corrupt = |column: &str| {
            Error::new(ErrorKind::Corrupt, format!("column {column} of {} is damaged", Self::TABLE))
        };
        Ok(Self {
            tenant: TenantId::new(tenant).map_err(|e| corrupt("tenant").with_source(e))?,
            deployment: deployment
                .parse()
                .map_err(|e: Error| corrupt("deployment").with_source(e))?,
            created_at: DateTime::parse_from_rfc3339(created_at)
                .map_err(|e| corrupt("created_at").with_source(e))?
                .to_utc(),
            generation: u32::try_from(generation)
                .ok()
                .and_then(Generation::new)
                .ok_or_else(|| corrupt("generation"))?,
        })
    }

    /// Refuses a database that is not `tenant`'s in `deployment`, or not of `generation`.
    ///
    /// # Errors
    /// `ForeignDatabase`, saying whose it is.
    pub fn check(
        &self,
        deployment: DeploymentId,
        tenant: &TenantId,
        generation: Generation,
    ) -> Result<()> {
        let fault = if self.tenant != *tenant {
            format!("is stamped for tenant `{}`", self.tenant)
        } else if self.deployment != deployment {
            format!("is stamped for deployment {}, expected {deployment}", self.deployment)
        } else if self.generation != generation {
            format!("is stamped as generation {}, expected {generation}", self.generation)
        } else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::ForeignDatabase,
            format!("the database under this tenant's name {fault}; it is not served"),
        )
        .with_tenant(tenant))
    }

    /// The refusal of a database that has tables and no stamp.
    pub fn missing(tenant: &TenantId) -> Error {
        Error::new(
            ErrorKind::ForeignDatabase,
            "the database under this tenant's name carries no stamp; it is not served",
        )
        .with_tenant(tenant)
    }
}

impl StampRow {
    /// Reads it in one query.
    ///
    /// # Errors
    /// `ForeignDatabase`: no stamp. `Corrupt`: a damaged one. `Unavailable`: no answer, with the
    /// database's error as source.
    pub(crate) async fn read(
        connections: &Connections,
        tenant: &TenantId,
        ledger: Option<&str>,
    ) -> Result<Self> {
        let (lease, way) = connections.take().await.map_err(|e| e.with_tenant(tenant))?;
        let select = |ledger| Stamp::select(connections.backend(), ledger);
        let rows = match (way.query(select(ledger)).await, ledger) {
            // The ledger may be missing where an application changed its name; the stamp decides.
            // PostgreSQL says so in the language of its settings.
            (Err(e), Some(_))
                if names_a_missing_table(&e) || connections.backend() == DbBackend::Postgres =>
            {
                way.query(select(None)).await
            }
            (rows, _) => rows,
        };
        if let Some(lease) = &lease {
            lease.set_quiet(true);
        }
        match rows {
            Err(e) if names_a_missing_table(&e) => Err(Stamp::missing(tenant)),
            Err(e) => Err(Error::from_db_err(
                e,
                ErrorKind::Unavailable,
                "cannot read the database's stamp",
            )
            .with_tenant(tenant)),
            Ok(rows) => match rows.as_slice() {
                [row] => Self::from_row(row),
                _ => Err(Stamp::missing(tenant)),
            },
        }
    }

    fn from_row(row: &QueryResult) -> Result<Self> {
        let columns = || -> std::result::Result<_, DbErr> {
            Ok((
                row.try_get::<String>("", "tenant")?,
                row.try_get::<String>("", "deployment")?,
                row.try_get::<String>("", "created_at")?,
                row.try_get::<i64>("", "generation")?,
            ))
        };
        let (tenant, deployment, created_at, generation) = columns().map_err(|e| {
            Error::new(ErrorKind::Corrupt, "the database's stamp is damaged").with_source(e)
        })?;
        Ok(Self {
            stamp: Stamp::from_columns(&tenant, &deployment, &created_at, generation)?,
            schema_version: row.try_get("", "schema_version").unwrap_or_default(),
        })
    }
}

/// Tells a table that is not there from a database that does not answer: SQLite says `no such
/// table`, PostgreSQL `relation … does not exist`.
fn names_a_missing_table(error: &DbErr) -> bool {
    let text = error.to_string();
    text.contains("no such table") || text.contains("does not exist") && text.contains("relation")
}

fn to_text(
    backend: DbBackend,
    statement: &impl sea_orm::sea_query::QueryStatementWriter,
) -> String {
    match backend {
        DbBackend::Postgres => statement.to_string(sea_orm::sea_query::PostgresQueryBuilder),
        _ => statement.to_string(sea_orm::sea_query::SqliteQueryBuilder),
    }
}
