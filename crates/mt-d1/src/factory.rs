use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream, stream::BoxStream};
use mt_core::{
    BackupManifest, Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, DatabaseInfo,
    DatabaseName, Driver, Error, ErrorKind, FactoryContext, Forecast, Maintenance, MaintenanceMode,
    OpenHandles, Placement, RestoreOptions, Result, Stamp, TenantId, Work,
};
use mt_remote::{Decoder, Endpoint, HttpSettings, Look, RemoteDriver, TenantLocks, http_client};
use sea_orm::DbBackend;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    D1Config, D1FactoryBuilder, NAME,
    api::{D1Client, Target},
    backup,
    budget::{Budget, Lane},
    look::confirm,
    names::RULES,
    place::{Place, Places},
    raw::{D1Protocol, Shapes, Wire},
    restore,
    wires::Measured,
};

/// How many databases are looked at, at once.
const LOOKS_AT_ONCE: usize = 8;
/// How many rows' worth of decoding goes on at once; more than there are cores gains nothing.
const DECODERS: usize = 4;
/// How many parameters a short statement may have. D1 itself takes 100; more travel in JSON arrays,
/// and what stands in each one's place counts for the length of the statement: 12 to 35 bytes, of
/// text with NUL characters and of real numbers with extreme exponents more.
const PARAMETERS: u32 = 2_000;
/// How long a statement may be, whatever it reads. D1 takes 100,000 bytes
/// (<https://developers.cloudflare.com/d1/platform/limits/>, read 2026-11-22); what asks for a
/// column so that its values come back exactly has about 210 of them, and there are up to 100.
const STATEMENT_BYTES: u64 = 75_000;

/// A Cloudflare D1 database of its own for every tenant, in one account.
pub struct D1Factory {
    pub(crate) config: D1Config,
    pub(crate) context: FactoryContext,
    pub(crate) client: D1Client,
    pub(crate) budget: Arc<Budget>,
    pub(crate) places: Places,
    pub(crate) handles: OpenHandles,
    pub(crate) locks: TenantLocks,
    /// Whose turn it is to restore a tenant.
    pub(crate) restores: TenantLocks,
    /// What is known of the columns of statements, whichever database they were sent to.
    shapes: Shapes,
    decoder: Decoder,
}

impl D1Factory {
    /// Begins to make a factory.
    pub fn builder() -> D1FactoryBuilder {
        D1FactoryBuilder::default()
    }

    pub(crate) fn new(
        config: D1Config,
        context: FactoryContext,
        endpoint: Endpoint,
    ) -> Result<Self> {
        let http = http_client(HttpSettings {
            connect_timeout: config.connect_timeout(),
            timeout: config.request_timeout(),
        })?;
        let budget = config.budget()?;
        let (account, token) = (config.account_id.as_str(), config.api_token());
        let limits = config.limits();
        let client =
            D1Client::of_account(http, endpoint, account, token, Arc::clone(&budget), limits)?;
        let shapes = Shapes::new();
        for ledger in [None, context.ledger()] {
            shapes.known(&Look::select(ledger).sql, &Look::COLUMNS);
            let columns = ["tenant", "deployment", "created_at", "generation", "schema_version"];
            let columns = &columns[..if ledger.is_some() { 5 } else { 4 }];
            shapes.known(&Stamp::select(DbBackend::Sqlite, ledger).sql, columns);
        }
        Ok(Self {
            places: Places::new(Arc::new(client.clone())),
            config,
            context,
            client,
            budget,
            handles: OpenHandles::default(),
            locks: TenantLocks::default(),
            restores: TenantLocks::default(),
            shapes,
            decoder: Decoder::new(DECODERS),
        })
    }

    /// The client of the service's API, for what is beyond a tenant's life: Time Travel, exports,
    /// databases of others. It sends within the same budget.
    pub const fn client(&self) -> &D1Client {
        &self.client
    }

    /// The budget of the token, and how much of it is used.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) async fn placement(&self, tenant: &TenantId) -> Result<Placement> {
        self.context.placements.get(tenant).await?.ok_or_else(|| {
            Error::new(ErrorKind::TenantNotFound, "no placement is known of the tenant")
        })
    }

    /// The name of the tenant's current database, there or not.
    pub(crate) fn name(&self, tenant: &TenantId, placement: &Placement) -> DatabaseName {
        placement.database.clone().unwrap_or_else(|| {
            RULES.encode(&self.config.database_prefix, tenant, placement.generation)
        })
    }

    /// Where the tenant's current database is.
    pub(crate) async fn locate(&self, tenant: &TenantId) -> Result<Place> {
        self.locate_by(tenant, &self.placement(tenant).await?).await
    }

    pub(crate) async fn locate_by(
        &self,
        tenant: &TenantId,
        placement: &Placement,
    ) -> Result<Place> {
        let name = self.name(tenant, placement);
        if let Some(place) = Place::remembered(&name, placement) {
            return Ok(place);
        }
        match self.places.find(&name).await? {
            Some(uuid) => Ok(Place { name, generation: placement.generation, uuid }),
            None => Err(Error::new(
                ErrorKind::TenantNotFound,
                format!("the account has no database `{name}`"),
            )),
        }
    }

    /// Where the tenant's database is after `error` at `place`: if there is no such database any
    /// more, perhaps it was made anew under its name. The service is asked once.
    ///
    /// # Errors
    /// `error`, unless there is another database. `Unavailable`: the service knows the database by
    /// its name and not by its id.
    async fn locate_again(&self, place: &Place, error: Error) -> Result<Place> {
        if error.kind() != ErrorKind::TenantNotFound {
            return Err(error);
        }
        self.places.forget_gone(place);
        match self.places.find(&place.name).await? {
            Some(uuid) if uuid != place.uuid => Ok(Place { uuid, ..place.clone() }),
            Some(_) => {
                let message =
                    format!("the service has `{}` and does not find it; ask again", place.name);
                Err(Error::new(ErrorKind::Unavailable, message).with_source(error))
            }
            None => Err(error),
        }
    }

    pub(crate) fn wire(&self, place: &Place, lane: Lane) -> Arc<dyn Wire> {
        Arc::new(Target::new(self.client.clone(), &*place.uuid, lane))
    }

    pub(crate) fn driver_over(&self, wire: Arc<dyn Wire>) -> Arc<dyn Driver> {
        let protocol = D1Protocol::new(wire, self.shapes.clone());
        Arc::new(RemoteDriver::new(protocol, self.decoder.clone()))
    }

    pub(crate) fn driver(&self, place: &Place, lane: Lane) -> Arc<dyn Driver> {
        self.driver_over(self.wire(place, lane))
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.handles.admit(tenant)?;
        let before = self.placement(tenant).await?;
        let place = self.locate_by(tenant, &before).await?;
        let data = match self.open_at(tenant, &place).await {
            Ok(data) => data,
            Err(error) => {
                let place = self.locate_again(&place, error).await?;
                let data = self.open_at(tenant, &place).await?;
                self.correct(tenant, &before, &place).await;
                data
            }
        };
        self.handles.track(&data)?;
        Ok(data)
    }

    async fn open_at(&self, tenant: &TenantId, place: &Place) -> Result<DataAdapters> {
        let driver = self.driver(place, Lane::Tenant(tenant.clone()));
        let mut opening = DataAdapters::opening(
            tenant,
            self.context.deployment,
            mt_core::Connection::Driver(driver),
        )
        .with_generation(place.generation)
        .with_provider(NAME);
        if let Some(ledger) = self.context.ledger() {
            opening = opening.with_ledger(ledger);
        }
        self.forgetting(place, opening.open().await)
    }

    /// Has the store remember a database whose stamp was checked, in the place of the one that
    /// `before` named and that is gone. What somebody else has stored since stays.
    async fn correct(&self, tenant: &TenantId, before: &Placement, place: &Place) {
        if let Err(error) = self.remember(tenant, before, place).await {
            // The next one to open it finds out by itself, for two requests more.
            tracing::warn!(
                tenant = %tenant, provider = NAME, error = %error.to_chain(),
                "the id of a database that was made anew could not be stored"
            );
        }
    }

    /// A place that turned out to be wrong is looked up anew the next time.
    pub(crate) fn forgetting<T>(&self, place: &Place, result: Result<T>) -> Result<T> {
        result.inspect_err(|e| {
            if [ErrorKind::TenantNotFound, ErrorKind::ForeignDatabase].contains(&e.kind()) {
                self.places.forget_gone(place);
            }
        })
    }

    pub(crate) async fn look_at(&self, place: &Place) -> Result<Look> {
        self.measure(place).await.map(|(look, _)| look)
    }

    /// Looks, and tells how large the database is.
    async fn measure(&self, place: &Place) -> Result<(Look, Option<u64>)> {
        let measured = Arc::new(Measured::new(self.wire(place, Lane::Control)));
        let driver = self.driver_over(Arc::clone(&measured) as Arc<dyn Wire>);
        let look = self.look_over(&*driver).await;
        Ok((self.forgetting(place, look)?, measured.size_bytes()))
    }

    /// Looks over a driver of a database.
    pub(crate) async fn look_over(&self, driver: &dyn Driver) -> Result<Look> {
        let ledger = self.context.ledger();
        confirm(Look::at(driver, ledger).await?, driver, ledger).await
    }

    /// Looks at the tenant's database, which `before` names.
    pub(crate) async fn look_for(
        &self,
        tenant: &TenantId,
        before: &Placement,
    ) -> Result<(Place, DatabaseInfo)> {
        let place = self.locate_by(tenant, before).await?;
        match self.info(tenant, &place).await {
            Ok(info) => Ok((place, info)),
            Err(error) => {
                let place = self.locate_again(&place, error).await?;
                let info = self.info(tenant, &place).await?;
                self.correct(tenant, before, &place).await;
                Ok((place, info))
            }
        }
    }

    async fn info(&self, tenant: &TenantId, place: &Place) -> Result<DatabaseInfo> {
        let (look, size_bytes) = self.measure(place).await?;
        let (stamp, applied) = look.stamped(tenant)?;
        stamp.check(self.context.deployment, tenant, place.generation)?;
        self.places.note_checked(place);
        let mut info = DatabaseInfo::new(place.name.clone(), stamp);
        if let Some(ledger) = self.context.ledger() {
            info = info.with_applied(ledger, applied);
        }
        Ok(match size_bytes {
            Some(size_bytes) => info.with_size_bytes(size_bytes),
            None => info,
        })
    }
}

/// Names the tenant and the provider in every error that leaves.
pub(crate) fn told<T>(tenant: &TenantId, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        let e = if e.tenant().is_none() { e.with_tenant(tenant) } else { e };
        e.with_provider(NAME)
    })
}

fn cannot_fence<T>(tenant: &TenantId) -> Result<T> {
    let what = "make the engine refuse a tenant's connections: a token opens every database";
    Err(Error::unsupported(NAME, what).with_tenant(tenant))
}

#[async_trait]
impl DatabaseFactory for D1Factory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::MINIMAL;
        // In a batch, which is what there is.
        capabilities.transactional_ddl = true;
        capabilities.backup = true;
        capabilities.restore = self.context.placements.can_change();
        capabilities.max_bound_parameters = Some(PARAMETERS);
        capabilities.max_statement_bytes = Some(STATEMENT_BYTES);
        capabilities
    }

    fn forecast(&self, work: Work) -> Option<Forecast> {
        Some(self.foresee(work))
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
        self.client
            .databases(prefix)
            .try_filter_map(move |database| {
                let decoded = RULES.decode(prefix, &database.name);
                future::ready(Ok(decoded.map(|(tenant, generation)| {
                    DatabaseEntry::new(DatabaseName::from_stored(database.name), tenant, generation)
                })))
            })
            .map_err(|e| e.with_provider(NAME))
            .boxed()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let described = async {
            let (_, info) = self.look_for(tenant, &self.placement(tenant).await?).await?;
            Ok(info)
        };
        told(tenant, described.await)
    }

    async fn describe_many(&self, tenants: &[TenantId]) -> Vec<Result<DatabaseInfo>> {
        // One future each, made here: a closure over borrowed tenants would not be `Send` enough.
        let looks: Vec<_> = tenants.iter().map(|tenant| self.describe(tenant)).collect();
        stream::iter(looks).buffered(LOOKS_AT_ONCE).collect().await
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        if mode == MaintenanceMode::Exclusive {
            let what = "keep other processes out of a tenant's database";
            return Err(Error::unsupported(NAME, what).with_tenant(tenant));
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
        cannot_fence(tenant)
    }

    async fn activate(&self, tenant: &TenantId) -> Result<()> {
        cannot_fence(tenant)
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

impl From<D1Factory> for Arc<dyn DatabaseFactory> {
    fn from(factory: D1Factory) -> Self {
        Arc::new(factory)
    }
}

impl fmt::Debug for D1Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("D1Factory")
            .field("config", &self.config)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
