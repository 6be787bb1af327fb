use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use mt_core::{
    BackupManifest, BudgetUsage, Capabilities, ConnectionBudget, DataAdapters, DatabaseEntry,
    DatabaseFactory, DatabaseInfo, DatabaseName, FactoryContext, Generation, Maintenance,
    MaintenanceMode, OpenHandles, Placement, ReadOnly, RecordedSchema, RestoreOptions, Result,
    Stamp, TenantId,
};
use sea_orm::{DbBackend, Statement};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, OnceCell},
};

use crate::{
    NAME, PostgresConfig, PostgresFactoryBuilder,
    admin::Admin,
    comment::Comment,
    connect::{self, Door},
    error::Error,
    look::Look,
    names::{Identity, Part, RULES},
    place::Place,
    programs::Programs,
    provision::not_placed,
    stock::Stock,
    sweep::Sweeps,
};

/// How many databases are looked into, at once.
const LOOKS_AT_ONCE: usize = 4;

/// A PostgreSQL database of its own for every tenant, on one server.
pub struct PostgresFactory {
    pub(crate) config: PostgresConfig,
    pub(crate) context: FactoryContext,
    pub(crate) admin: Admin,
    pub(crate) handles: OpenHandles,
    pub(crate) sweeps: Sweeps,
    pub(crate) stock: Stock,
    /// Known once it was asked for.
    pub(crate) template: Mutex<Option<String>>,
    /// Known once the server was asked.
    budget: OnceCell<ConnectionBudget>,
    pub(crate) programs: Programs,
}

impl PostgresFactory {
    /// Begins to make a factory.
    pub fn builder() -> PostgresFactoryBuilder {
        PostgresFactoryBuilder::default()
    }

    pub(crate) fn new(
        config: PostgresConfig,
        context: FactoryContext,
        server: PgConnectOptions,
    ) -> Self {
        let admin = Admin::new(server, &config, context.deployment);
        let programs = Programs::look(config.client_programs.as_deref());
        Self {
            config,
            context,
            admin,
            handles: OpenHandles::default(),
            sweeps: Sweeps::default(),
            stock: Stock::default(),
            template: Mutex::default(),
            budget: OnceCell::new(),
            programs,
        }
    }

    /// The tenant's current database, checked, and its roles.
    pub(crate) async fn ours(&self, tenant: &TenantId) -> Result<(Place, Identity)> {
        let placement = self.placement(tenant).await?;
        let name = self.name(tenant, &placement);
        let place =
            self.find(&name).await?.ok_or_else(|| Error::NoDatabase(name.as_str().to_owned()))?;
        self.checked(tenant, place, placement.generation)
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.handles.admit(tenant)?;
        let (place, identity) = self.ours(tenant).await?;
        let (stamp, _) = place.stamped(tenant)?;
        let budget = self.budget().await?;
        let pool = |part| {
            let door = Door::new(&self.admin, &place, &identity, part, tenant, &self.config);
            budget.pool(door, self.config.max_connections as usize)
        };
        let (primary, read) = (pool(Part::Runtime), pool(Part::Reader));
        let mut opening = DataAdapters::opening(tenant, self.context.deployment, primary)
            .with_generation(stamp.generation)
            .with_provider(NAME)
            .with_read(read, ReadOnly::Engine);
        if let Some(ledger) = self.context.ledger() {
            opening = opening.with_ledger(ledger);
        }
        let data = opening.open().await?;
        self.handles.track(&data)?;
        Ok(data)
    }

    /// How much of the budget of connections is taken; `None`: nothing was opened yet.
    pub fn connections(&self) -> Option<BudgetUsage> {
        self.budget.get().map(ConnectionBudget::usage)
    }

    /// The budget of all tenants' connections.
    pub(crate) async fn budget(&self) -> Result<&ConnectionBudget> {
        let ask = async || ConnectionBudget::new(connect::budget(&self.admin, &self.config).await?);
        self.budget.get_or_try_init(ask).await
    }

    async fn look_for(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let (place, identity) = self.ours(tenant).await?;
        let info = self.look_into(tenant, &place, &identity).await?;
        Ok(info.with_size_bytes(self.size(&place).await?))
    }

    async fn look_into(
        &self,
        tenant: &TenantId,
        place: &Place,
        identity: &Identity,
    ) -> Result<DatabaseInfo> {
        let (stamp, _) = place.stamped(tenant)?;
        let ledger = self.context.ledger();
        let look = Look::into(&self.admin, &place.name, identity, ledger).await?;
        if !look.has_stamp {
            return Err(Stamp::missing(tenant));
        }
        let mut info = DatabaseInfo::new(DatabaseName::from_stored(place.name.as_str()), stamp);
        if let Some(ledger) = ledger {
            let schema = place.comment.as_ref().and_then(Comment::schema).cloned();
            info =
                info.with_applied(ledger, look.applied).with_recorded(schema.unwrap_or_default());
        }
        Ok(info)
    }

    /// Each tenant's current database, checked, by one question for all.
    async fn all_ours(&self, tenants: &[TenantId]) -> Result<Vec<Result<(Place, Identity)>>> {
        let placements = self.context.placements.get_many(tenants).await?;
        let named = |(tenant, placement): (&TenantId, Option<Placement>)| {
            let placement = placement.ok_or_else(not_placed)?;
            Ok((self.name(tenant, &placement).as_str().to_owned(), placement.generation))
        };
        let named: Vec<Result<(String, Generation)>> =
            tenants.iter().zip(placements).map(named).collect();
        let names: Vec<String> = named.iter().flatten().map(|(name, _)| name.clone()).collect();
        let found = Place::find(&self.admin, &self.config.database_prefix, &names).await?;
        let found: HashMap<String, Place> =
            found.into_iter().map(|place| (place.name.clone(), place)).collect();
        let checked = |(tenant, named): (&TenantId, Result<(String, Generation)>)| {
            let (name, generation) = named?;
            let place = found.get(&name).cloned().ok_or(Error::NoDatabase(name))?;
            self.checked(tenant, place, generation)
        };
        Ok(tenants.iter().zip(named).map(checked).collect())
    }

    fn checked(
        &self,
        tenant: &TenantId,
        place: Place,
        generation: Generation,
    ) -> Result<(Place, Identity)> {
        let identity = place.check(self.context.deployment, tenant, generation)?.clone();
        match place {
            Place { is_half_dropped: true, name, .. } => Err(Error::HalfDropped(name).into()),
            Place { is_open: false, name, .. } => Err(Error::Closed(name).into()),
            place => Ok((place, identity)),
        }
    }

    async fn look_for_all(&self, tenants: &[TenantId]) -> Vec<Result<DatabaseInfo>> {
        let ours = match self.all_ours(tenants).await {
            Ok(ours) => ours,
            Err(error) => return tenants.iter().map(|_| Err(error.clone())).collect(),
        };
        // One future each, made here: a closure over borrowed tenants would not be `Send` enough.
        let looks: Vec<_> = tenants
            .iter()
            .zip(ours)
            .map(|(tenant, ours)| async move {
                let (place, identity) = ours?;
                self.look_into(tenant, &place, &identity).await
            })
            .collect();
        stream::iter(looks).buffered(LOOKS_AT_ONCE).collect().await
    }

    /// What the comments say, of those that are the tenants' current databases.
    async fn recorded(&self, tenants: &[TenantId]) -> Result<Vec<Option<RecordedSchema>>> {
        let recorded = |(place, _): (Place, Identity)| {
            let comment = place.comment?;
            let generation = comment.stamp()?.generation;
            Some(RecordedSchema { generation, schema: comment.schema()?.clone() })
        };
        let ours = self.all_ours(tenants).await?;
        Ok(ours.into_iter().map(|ours| recorded(ours.ok()?)).collect())
    }

    async fn size(&self, place: &Place) -> Result<u64> {
        let size = sqlx::query_scalar::<_, i64>("SELECT pg_database_size($1)").bind(&place.name);
        let size = size.fetch_one(self.admin.pool()).await;
        let size = size.map_err(Error::server("ask for the size of the database"))?;
        Ok(u64::try_from(size).unwrap_or_default())
    }

    async fn open_for_maintenance(&self, tenant: &TenantId) -> Result<Maintenance> {
        let (place, identity) = self.ours(tenant).await?;
        let (stamp, _) = place.stamped(tenant)?;
        let entrance = self.admin.entrance().await?;
        let connection =
            connect::maintain(&self.admin, &place.name, &identity, tenant.as_str(), &self.config)
                .await?;
        let (deployment, generation) = (self.context.deployment, stamp.generation);
        // While it is connected the server refuses to drop or rename the database.
        let maintenance =
            Maintenance::open(tenant, deployment, generation, connection, entrance).await?;
        Ok(maintenance.with_record(move |schema| {
            let comment = Comment::of(&stamp, schema.clone());
            Ok(Statement::from_string(DbBackend::Postgres, comment.to_statement(&place.name)?))
        }))
    }

    async fn databases(&self) -> Result<Vec<DatabaseEntry>> {
        let prefix = &self.config.database_prefix;
        let names = sqlx::query_scalar::<_, String>(
            "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1)",
        );
        let names = names.bind(prefix).fetch_all(self.admin.pool()).await;
        let names = names.map_err(Error::server("list the databases"))?;
        let entry = |name: String| {
            let (tenant, generation) = RULES.decode(prefix, &name)?;
            Some(DatabaseEntry::new(DatabaseName::from_stored(name), tenant, generation))
        };
        Ok(names.into_iter().filter_map(entry).collect())
    }
}

/// Names the tenant and the provider in every error that leaves.
fn told<T>(tenant: &TenantId, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        let e = if e.tenant().is_none() { e.with_tenant(tenant) } else { e };
        e.with_provider(NAME)
    })
}

fn unsupported<T>(tenant: &TenantId, what: &str) -> Result<T> {
    Err(mt_core::Error::unsupported(NAME, what).with_tenant(tenant))
}

#[async_trait]
impl DatabaseFactory for PostgresFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::MINIMAL;
        capabilities.transactions = true;
        capabilities.savepoints = true;
        capabilities.streaming = true;
        capabilities.read_only = ReadOnly::Engine;
        capabilities.transactional_ddl = true;
        capabilities.suspend = true;
        // Of the server's version, as soon as a connection told it.
        capabilities.backup = self.programs.serve(self.admin.known_version());
        capabilities.restore = capabilities.backup && self.context.placements.can_change();
        capabilities
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        told(tenant, self.open(tenant).await)
    }

    async fn provision(&self, tenant: &TenantId) -> Result<()> {
        told(tenant, self.make(tenant).await)
    }

    async fn deprovision(&self, tenant: &TenantId) -> Result<()> {
        told(tenant, self.remove_all(tenant).await)
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        stream::once(self.databases())
            .map_ok(|entries| stream::iter(entries.into_iter().map(Ok)))
            .try_flatten()
            .map_err(|e: mt_core::Error| e.with_provider(NAME))
            .boxed()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        told(tenant, self.look_for(tenant).await)
    }

    async fn describe_many(&self, tenants: &[TenantId]) -> Vec<Result<DatabaseInfo>> {
        let looked = self.look_for_all(tenants).await;
        tenants.iter().zip(looked).map(|(tenant, looked)| told(tenant, looked)).collect()
    }

    async fn recorded_schemas(&self, tenants: &[TenantId]) -> Result<Vec<Option<RecordedSchema>>> {
        self.recorded(tenants).await.map_err(|e| e.with_provider(NAME))
    }

    async fn tend(&self) -> Result<()> {
        self.sweep_if_due().await;
        self.restock().await.map_err(|e| e.with_provider(NAME))
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        if mode == MaintenanceMode::Exclusive {
            return unsupported(tenant, "keep others out of a tenant's database meanwhile");
        }
        told(tenant, self.open_for_maintenance(tenant).await)
    }

    async fn suspend(&self, tenant: &TenantId) -> Result<()> {
        told(tenant, self.keep_out(tenant).await)
    }

    async fn activate(&self, tenant: &TenantId) -> Result<()> {
        told(tenant, self.let_in(tenant).await)
    }

    async fn backup(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        told(tenant, self.copy(tenant, sink).await)
    }

    async fn restore(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        source: &mut (dyn AsyncRead + Send + Unpin),
        options: RestoreOptions,
    ) -> Result<()> {
        told(tenant, self.put_back(tenant, manifest, source, options).await)
    }
}

impl From<PostgresFactory> for Arc<dyn DatabaseFactory> {
    fn from(factory: PostgresFactory) -> Self {
        Arc::new(factory)
    }
}

impl fmt::Debug for PostgresFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresFactory")
            .field("config", &self.config)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
