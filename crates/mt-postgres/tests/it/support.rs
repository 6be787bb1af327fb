//! What tests on a PostgreSQL begin with.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mt_conformance::MemoryPlacements;
use mt_core::{
    BackupManifest, Connection, DatabaseFactory as _, DeploymentId, Error, ErrorKind,
    FactoryContext, RestoreOptions, Result, SchemaTemplate, TenantId,
};
use mt_devservers::postgres::SharedPostgres;
use mt_postgres::{PostgresFactory, PostgresFactoryBuilder};
use sea_orm::ConnectionTrait as _;
use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};
use url::Url;
use uuid::Uuid;

/// What the passwords of all tests' roles are derived from.
pub(crate) const ROLE_SECRET: &str = "hunter2-hunter2-hunter2";

/// A part of a server that no other test uses.
#[derive(Debug)]
pub(crate) struct Site {
    server: SharedPostgres,
    pub(crate) prefix: String,
}

impl Site {
    pub(crate) async fn find() -> Self {
        let server = SharedPostgres::find().await;
        let server = server.unwrap_or_else(|error| panic!("no server for the test: {error:#}"));
        let random = Uuid::new_v4().simple().to_string();
        Self { server, prefix: format!("t{}_", &random[..10]) }
    }

    /// How the superuser reaches the server.
    pub(crate) fn url(&self) -> Url {
        self.server.url().parse().unwrap()
    }

    /// A factory, as one more process of the installation would have it.
    pub(crate) fn builder(&self, context: &FactoryContext) -> PostgresFactoryBuilder {
        PostgresFactory::builder()
            .with_admin_url(self.server.url())
            .with_role_secret(ROLE_SECRET)
            .with_database_prefix(&self.prefix)
            .with_drain_timeout(Duration::from_secs(5))
            .with_context(context.clone())
    }

    pub(crate) fn factory(&self, context: &FactoryContext) -> PostgresFactory {
        self.builder(context).build().unwrap()
    }
}

/// A schema that is one table and one row, and whose ledger has one entry.
#[derive(Debug)]
pub(crate) struct Schema(pub(crate) &'static str);

#[async_trait]
impl SchemaTemplate for Schema {
    fn fingerprint(&self) -> &str {
        self.0
    }

    fn ledger(&self) -> &'static str {
        "ledger"
    }

    async fn apply(&self, connection: &Connection) -> Result<()> {
        let Connection::SeaOrm(connection) = connection else { panic!("not SeaORM's") };
        let failed =
            |e| Error::from_db_err(e, ErrorKind::MigrationFailed, "the schema cannot be applied");
        let sql = format!(
            "CREATE SCHEMA more; CREATE TYPE more.mood AS ENUM ('ok'); \
             CREATE TABLE more.notes (id bigserial PRIMARY KEY, mood more.mood, text text); \
             CREATE VIEW texts AS SELECT text FROM more.notes; \
             CREATE FUNCTION more.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
             CREATE FUNCTION newest() RETURNS text LANGUAGE sql AS 'SELECT max(text) FROM texts'; \
             INSERT INTO more.notes (text) VALUES ('{0}'); \
             INSERT INTO ledger (version, applied_at) VALUES ('{0}', 0)",
            self.0
        );
        connection.execute_unprepared(&sql).await.map(drop).map_err(failed)
    }
}

/// With a store that can change.
pub(crate) fn context() -> FactoryContext {
    FactoryContext::new(DeploymentId::random())
        .with_placements(Arc::new(MemoryPlacements::default()))
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

/// A copy, as a backup would be kept.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) manifest: BackupManifest,
    pub(crate) bytes: Vec<u8>,
}

impl Taken {
    pub(crate) async fn of(factory: &PostgresFactory, tenant: &TenantId) -> Result<Self> {
        let mut bytes = Vec::new();
        let manifest = factory.backup(tenant, &mut bytes).await?;
        Ok(Self { manifest, bytes })
    }

    pub(crate) async fn restore(&self, factory: &PostgresFactory, tenant: &TenantId) -> Result<()> {
        let (mut source, options) = (self.bytes.as_slice(), RestoreOptions::default());
        factory.restore(tenant, &self.manifest, &mut source, options).await
    }

    /// Other bytes, which the manifest describes well.
    pub(crate) fn resealed(&self, bytes: Vec<u8>) -> Self {
        let mut manifest = self.manifest.clone();
        manifest.size_bytes = bytes.len() as u64;
        manifest.sha256 = format!("{:x}", Sha256::digest(&bytes));
        Self { manifest, bytes }
    }
}

/// A tenant with a database, and a superuser who looks at it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) site: Site,
    pub(crate) context: FactoryContext,
    pub(crate) factory: PostgresFactory,
    pub(crate) tenant: TenantId,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::with(context()).await
    }

    pub(crate) async fn with(context: FactoryContext) -> Self {
        let site = Site::find().await;
        let factory = site.factory(&context);
        let tenant = tenant("acme");
        factory.provision(&tenant).await.unwrap();
        Self { site, context, factory, tenant }
    }

    /// Whether copies can be made here; where the programs are too old that is told.
    pub(crate) async fn can_copy(&self) -> bool {
        let capabilities = self.factory.capabilities();
        assert_eq!(capabilities.backup, capabilities.restore);
        if !capabilities.backup {
            let error = Taken::of(&self.factory, &self.tenant).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("client_programs"), "{error}");
        }
        capabilities.backup
    }

    pub(crate) async fn database(&self) -> String {
        self.factory.describe(&self.tenant).await.unwrap().name.as_str().to_owned()
    }

    pub(crate) async fn superuser(&self) -> PgConnection {
        self.inside("postgres").await
    }

    /// A superuser in a database.
    pub(crate) async fn inside(&self, database: &str) -> PgConnection {
        let mut url = self.site.url();
        url.set_path(database);
        url.as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
    }

    /// Runs statements as the owner of the tenant's database.
    pub(crate) async fn as_owner(&self, sql: &str) {
        let database = self.database().await;
        let mut connection = self.inside(&database).await;
        let owner = owner(&mut connection, &database).await;
        run(&mut connection, format!("SET ROLE \"{owner}\"; {sql}")).await.unwrap();
    }

    /// What is there of a copy that is being made or was given up: databases and roles.
    pub(crate) async fn remains(&self) -> Vec<String> {
        let sql = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1 || '--') \
              AND NOT starts_with(datname, $1 || '--t-') \
            UNION ALL SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1 || '--') \
              AND NOT EXISTS (SELECT FROM pg_shdescription \
                WHERE description LIKE '%template%' || right(rolname, 32) || '%') \
              AND NOT EXISTS (SELECT FROM pg_database d JOIN pg_roles o ON o.oid = datdba \
                WHERE right(o.rolname, 32) = right(pg_roles.rolname, 32) \
                AND pg_roles.rolname !~ '--d-[0-9a-f]{32}$')";
        let mut superuser = self.superuser().await;
        sqlx::query_scalar(sql).bind(&self.site.prefix).fetch_all(&mut superuser).await.unwrap()
    }

    /// Waits until nothing is left of what was given up.
    pub(crate) async fn tidied(&self) {
        let mut remains = self.remains().await;
        for _ in 0..1_000 {
            if remains.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            remains = self.remains().await;
        }
        panic!("left behind: {remains:?}");
    }
}

pub(crate) async fn owner(connection: &mut PgConnection, database: &str) -> String {
    let sql = "SELECT rolname::text FROM pg_database JOIN pg_roles r ON r.oid = datdba \
        WHERE datname = $1";
    sqlx::query_scalar(sql).bind(database).fetch_one(connection).await.unwrap()
}

pub(crate) async fn run(connection: &mut PgConnection, sql: impl Into<String>) -> sqlx::Result<()> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.into()))).await.map(drop)
}

/// The first column of the first row, as text.
pub(crate) async fn text(connection: &mut PgConnection, sql: impl Into<String>) -> String {
    let sql = AssertSqlSafe(sql.into());
    sqlx::query_scalar::<_, Option<String>>(sql)
        .fetch_one(connection)
        .await
        .unwrap()
        .unwrap_or_default()
}
