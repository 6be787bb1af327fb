use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream, stream::BoxStream};
use mt_core::{
    BackupManifest, Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, DatabaseInfo,
    DatabaseName, Driver, ErrorKind, FactoryContext, Maintenance, MaintenanceMode, NameRules,
    OpenHandles, Placement, ReadOnly, RestoreOptions, Result, TenantId,
};
use mt_remote::{Decoder, Endpoint, HttpSettings, Look, RemoteDriver, TenantLocks, http_client};
use reqwest::Client;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    NAME, TursoConfig, TursoFactoryBuilder, backup,
    hrana::{Agreed, Door, Hrana, Limits},
    place::{Keys, Place, Places},
    platform::{
        Authorization, ConfigurationChange, Database, DatabaseFilter, Engine, PlatformClient,
    },
    restore,
    tokens::Tokens,
};

/// How many databases are looked at, at once.
const LOOKS_AT_ONCE: usize = 8;
/// How many rows' worth of decoding goes on at once; more than there are cores gains nothing.
const DECODERS: usize = 4;

/// A Turso or libSQL database of its own for every tenant, in one group of one organization.
pub struct TursoFactory {
    pub(crate) config: TursoConfig,
    pub(crate) context: FactoryContext,
    pub(crate) platform: PlatformClient,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) places: Places,
    pub(crate) handles: OpenHandles,
    pub(crate) locks: TenantLocks,
    /// Whose turn it is to restore a tenant.
    pub(crate) restores: TenantLocks,
    pub(crate) rules: NameRules,
    pub(crate) encoding: Agreed,
    http: Client,
    decoder: Decoder,
}

impl TursoFactory {
    /// Begins to make a factory.
    pub fn builder() -> TursoFactoryBuilder {
        TursoFactoryBuilder::default()
    }

    pub(crate) fn new(
        config: TursoConfig,
        context: FactoryContext,
        api: Endpoint,
        rules: NameRules,
    ) -> Result<Self> {
        let http = http_client(HttpSettings {
            connect_timeout: config.connect_timeout(),
            timeout: config.request_timeout(),
        })?;
        let platform = PlatformClient::new(
            http.clone(),
            api,
            config.organization.as_str(),
            config.api_token(),
            config.api_limits(),
        )?;
        let group = config.group_tokens.then(|| config.group.clone());
        let tokens = Arc::new(Tokens::new(&platform, group, config.token_lifetime())?);
        Ok(Self {
            config,
            context,
            platform,
            tokens,
            places: Places::default(),
            handles: OpenHandles::default(),
            locks: TenantLocks::default(),
            restores: TenantLocks::default(),
            rules,
            encoding: Agreed::default(),
            http,
            decoder: Decoder::new(DECODERS),
        })
    }

    /// The client of the platform API, for what is beyond a tenant's life: branches, points in time,
    /// usage.
    pub const fn platform(&self) -> &PlatformClient {
        &self.platform
    }

    pub(crate) async fn placement(&self, tenant: &TenantId) -> Result<Placement> {
        self.context.placements.get(tenant).await?.ok_or_else(|| {
            mt_core::Error::new(ErrorKind::TenantNotFound, "no placement is known of the tenant")
        })
    }

    /// The name of the tenant's current database, there or not.
    pub(crate) fn name(&self, tenant: &TenantId, placement: &Placement) -> DatabaseName {
        placement.database.clone().unwrap_or_else(|| {
            self.rules.encode(&self.config.database_prefix, tenant, placement.generation)
        })
    }

    /// Where the tenant's current database is.
    pub(crate) async fn locate(&self, tenant: &TenantId) -> Result<Place> {
        let placement = self.placement(tenant).await?;
        let name = self.name(tenant, &placement);
        if let Some(place) = Place::remembered(&name, &placement).or_else(|| self.places.get(&name))
        {
            return Ok(place);
        }
        let found = self.platform.database(name.as_str()).await?.ok_or_else(|| {
            mt_core::Error::new(
                ErrorKind::TenantNotFound,
                format!("the service has no database `{name}`"),
            )
        })?;
        require_libsql(&found)?;
        let place = Place::new(placement.generation, &found);
        self.places.put(place.clone());
        Ok(place)
    }

    pub(crate) fn hrana(&self, place: &Place, authorization: Authorization) -> Result<Hrana> {
        let keys = Keys::new(
            self.platform.clone(),
            Arc::clone(&self.tokens),
            place.clone(),
            authorization,
        );
        let limits = Limits {
            request: self.config.request_timeout(),
            transaction: self.config.transaction_timeout(),
        };
        let endpoint = self.platform.data_endpoint(&place.hostname)?;
        let (http, encoding) = (self.http.clone(), self.encoding.clone());
        Ok(Hrana::new(Door::new(http, endpoint, Arc::new(keys), encoding, limits)))
    }

    pub(crate) fn driver(
        &self,
        place: &Place,
        authorization: Authorization,
    ) -> Result<Arc<dyn Driver>> {
        let hrana = self.hrana(place, authorization)?;
        Ok(Arc::new(RemoteDriver::new(hrana, self.decoder.clone())))
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.handles.admit(tenant)?;
        let place = self.locate(tenant).await?;
        let connection =
            |authorization| self.driver(&place, authorization).map(mt_core::Connection::Driver);
        let primary = connection(Authorization::FullAccess)?;
        let read = connection(Authorization::ReadOnly)?;
        let mut opening = DataAdapters::opening(tenant, self.context.deployment, primary)
            .with_generation(place.generation)
            .with_provider(NAME)
            .with_read(read, ReadOnly::Engine);
        if let Some(ledger) = self.context.ledger() {
            opening = opening.with_ledger(ledger);
        }
        let data = self.forgetting(&place, opening.open().await)?;
        self.handles.track(&data)?;
        Ok(data)
    }

    /// A place that turned out to be wrong is looked up anew the next time.
    pub(crate) fn forgetting<T>(&self, place: &Place, result: Result<T>) -> Result<T> {
        result.inspect_err(|e| {
            if [ErrorKind::TenantNotFound, ErrorKind::ForeignDatabase].contains(&e.kind()) {
                self.places.forget(&place.name);
            }
        })
    }

    pub(crate) async fn look_at(&self, place: &Place) -> Result<Look> {
        let driver = self.driver(place, Authorization::FullAccess)?;
        self.forgetting(place, Look::at(&*driver, self.context.ledger()).await)
    }

    async fn look_for(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let place = self.locate(tenant).await?;
        let (stamp, applied) = self.look_at(&place).await?.stamped(tenant)?;
        stamp.check(self.context.deployment, tenant, place.generation)?;
        let info = DatabaseInfo::new(place.name, stamp);
        Ok(match self.context.ledger() {
            Some(ledger) => info.with_applied(ledger, applied),
            None => info,
        })
    }

    async fn open_for_maintenance(
        &self,
        tenant: &TenantId,
        seen: Option<&DatabaseInfo>,
    ) -> Result<Maintenance> {
        let lock = self.locks.shared(tenant, self.config.drain_timeout()).await?;
        let place = self.locate(tenant).await?;
        let driver = self.driver(&place, Authorization::FullAccess)?;
        let connection = mt_core::Connection::Driver(driver);
        match seen {
            Some(seen) if seen.name == place.name => {
                seen.stamp.check(self.context.deployment, tenant, place.generation)?;
                Ok(Maintenance::new(seen.stamp.clone(), connection, lock))
            }
            _ => {
                let deployment = self.context.deployment;
                let opened =
                    Maintenance::open(tenant, deployment, place.generation, connection, lock);
                self.forgetting(&place, opened.await)
            }
        }
    }

    /// Blocks the tenant's database, or takes the block back.
    async fn block(&self, tenant: &TenantId, block: bool) -> Result<()> {
        let place = self.locate(tenant).await?;
        let looked = match self.look_at(&place).await {
            Err(e) if e.kind() == ErrorKind::TenantNotActive => {
                self.look_behind_block(&place).await
            }
            looked => looked,
        };
        let (stamp, _) = looked?.stamped(tenant)?;
        stamp.check(self.context.deployment, tenant, place.generation)?;
        self.platform.configure(place.name.as_str(), &blocking(block)).await.map(drop)
    }

    /// Looks at a blocked database: it is open for reading meanwhile, and for nothing else. In a
    /// task of its own, so that the block is put back whoever gives up.
    pub(crate) async fn look_behind_block(&self, place: &Place) -> Result<Look> {
        let driver = self.driver(place, Authorization::ReadOnly)?;
        let (platform, name) = (self.platform.clone(), place.name.clone());
        let ledger = self.context.ledger().map(str::to_owned);
        let looking = tokio::spawn(async move {
            let reads = |block| ConfigurationChange::default().with_block_reads(block);
            platform.configure(name.as_str(), &reads(false)).await?;
            let look = Look::at(&*driver, ledger.as_deref()).await;
            platform.configure(name.as_str(), &reads(true)).await?;
            look
        });
        let looked = looking.await.map_err(|e| {
            mt_core::Error::new(ErrorKind::Internal, "a task ended early").with_source(e)
        })?;
        self.forgetting(place, looked)
    }
}

/// The service has two engines, and this provider speaks the protocol of one.
pub(crate) fn require_libsql(database: &Database) -> Result<()> {
    match database.engine() {
        Engine::LibSql => Ok(()),
        Engine::Turso | Engine::Other => Err(mt_core::Error::unsupported(
            NAME,
            format!(
                "open database `{}`, which is of another engine than libSQL; make it without `use_tursodb`",
                database.name
            ),
        )),
    }
}

/// The settings that make the server refuse everything, or nothing any more.
pub(crate) fn blocking(block: bool) -> ConfigurationChange {
    ConfigurationChange::default().with_block_reads(block).with_block_writes(block)
}

/// Names the tenant and the provider in every error that leaves.
pub(crate) fn told<T>(tenant: &TenantId, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        let e = if e.tenant().is_none() { e.with_tenant(tenant) } else { e };
        e.with_provider(NAME)
    })
}

#[async_trait]
impl DatabaseFactory for TursoFactory {
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
        capabilities.backup = true;
        capabilities.restore = self.context.placements.can_change();
        capabilities.max_bound_parameters = Some(32_766);
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
        let prefix = &self.config.database_prefix;
        let filter = DatabaseFilter::default().with_group(&self.config.group).with_prefix(prefix);
        self.platform
            .databases(filter)
            .try_filter_map(move |database| {
                let decoded = self.rules.decode(prefix, &database.name);
                future::ready(Ok(decoded.map(|(tenant, generation)| {
                    DatabaseEntry::new(DatabaseName::from_stored(database.name), tenant, generation)
                })))
            })
            .map_err(|e| e.with_provider(NAME))
            .boxed()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        told(tenant, self.look_for(tenant).await)
    }

    async fn describe_many(&self, tenants: &[TenantId]) -> Vec<Result<DatabaseInfo>> {
        // One future each, made here: a closure over borrowed tenants would not be `Send` enough.
        let looks: Vec<_> = tenants.iter().map(|tenant| self.describe(tenant)).collect();
        stream::iter(looks).buffered(LOOKS_AT_ONCE).collect().await
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        if mode == MaintenanceMode::Exclusive {
            let what = "keep other processes out of a tenant's database";
            return Err(mt_core::Error::unsupported(NAME, what).with_tenant(tenant));
        }
        told(tenant, self.open_for_maintenance(tenant, None).await)
    }

    async fn maintain_described(
        &self,
        tenant: &TenantId,
        seen: &DatabaseInfo,
    ) -> Result<Maintenance> {
        told(tenant, self.open_for_maintenance(tenant, Some(seen)).await)
    }

    async fn suspend(&self, tenant: &TenantId) -> Result<()> {
        told(tenant, self.block(tenant, true).await)
    }

    async fn activate(&self, tenant: &TenantId) -> Result<()> {
        told(tenant, self.block(tenant, false).await)
    }

    async fn backup(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        told(tenant, backup::take(self, tenant, sink).await)
    }

    async fn restore(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        source: &mut (dyn AsyncRead + Send + Unpin),
        options: RestoreOptions,
    ) -> Result<()> {
        told(tenant, restore::put_back(self, tenant, manifest, source, options).await)
    }
}

impl From<TursoFactory> for Arc<dyn DatabaseFactory> {
    fn from(factory: TursoFactory) -> Self {
        Arc::new(factory)
    }
}

impl fmt::Debug for TursoFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TursoFactory")
            .field("config", &self.config)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
