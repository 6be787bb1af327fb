//! One schema for all tenants.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Instant,
};

use futures_util::{StreamExt as _, stream};
use mt_core::{
    DatabaseFactory as _, Error, ErrorKind, RecordedSchema, Result, TenantId, TenantState,
};
use mt_migration::{Runner, SchemaStatus};
use serde::{Serialize, Serializer};

use crate::{
    MultiTenancy, TenantRecord,
    multi_tenancy::{Inner, is_closed},
    provider::OwnProvider,
};

/// Which tenants [`MultiTenancy::migrate_all`] migrates, and how.
#[derive(Clone)]
#[must_use]
pub struct MigrateAll {
    tenants: Option<Vec<TenantId>>,
    skip: Vec<TenantId>,
    jobs: usize,
    dry_run: bool,
    verify: bool,
    progress: Option<Progress>,
}

type Progress = Arc<dyn Fn(&TenantMigration, usize) + Send + Sync>;

impl Default for MigrateAll {
    fn default() -> Self {
        Self {
            tenants: None,
            skip: Vec::new(),
            jobs: 8,
            dry_run: false,
            verify: false,
            progress: None,
        }
    }
}

impl MigrateAll {
    /// Only these. Default: all.
    pub fn with_tenants(mut self, tenants: Vec<TenantId>) -> Self {
        self.tenants = Some(tenants);
        self
    }

    /// All but these.
    pub fn with_skip(mut self, skip: Vec<TenantId>) -> Self {
        self.skip = skip;
        self
    }

    /// How many at once, 1 or more. Default 8: most of a migration is waiting for the disk.
    pub const fn with_jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs;
        self
    }

    /// Only says what is pending.
    pub const fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Looks into every database, instead of believing the catalog where it says that nothing is
    /// pending, and mends the catalog. A tenant whose row has an error is looked at in any case.
    pub const fn with_verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    pub(crate) const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Is called after each tenant, with how many there are in all.
    pub fn with_progress(
        mut self,
        progress: impl Fn(&TenantMigration, usize) + Send + Sync + 'static,
    ) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

impl fmt::Debug for MigrateAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrateAll")
            .field("tenants", &self.tenants)
            .field("skip", &self.skip)
            .field("jobs", &self.jobs)
            .field("dry_run", &self.dry_run)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

/// What became of one tenant.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TenantMigration {
    /// The tenant.
    pub tenant: TenantId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl TenantMigration {
    fn interrupted(tenant: TenantId, cause: &Arc<tokio::task::JoinError>) -> Self {
        let error = Error::new(ErrorKind::Internal, "the migration was interrupted")
            .with_tenant(&tenant)
            .with_source(Arc::clone(cause));
        Self { tenant, outcome: Outcome::Failed { error }, millis: 0 }
    }
}

/// What became of one tenant.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Migrations were applied.
    Migrated {
        /// Which, in order.
        ran: Vec<String>,
        /// Those of them that were not one atomic unit with their record.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        not_atomic: Vec<String>,
    },
    /// Nothing was pending.
    UpToDate,
    /// A dry run: these would be applied.
    Pending {
        /// Which, in order.
        pending: Vec<String>,
    },
    /// It was left out.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It failed; the others went on.
    Failed {
        /// Why, causes included.
        #[serde(serialize_with = "as_chain")]
        error: Error,
    },
}

fn as_chain<S: Serializer>(error: &Error, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&error.to_chain())
}

/// What became of every tenant, in the order of their ids, the main tenant first.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FleetReport {
    /// One entry per tenant.
    pub tenants: Vec<TenantMigration>,
    /// How long all took, in milliseconds.
    pub millis: u64,
}

impl FleetReport {
    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &TenantMigration> {
        self.tenants.iter().filter(|t| matches!(t.outcome, Outcome::Failed { .. }))
    }

    /// Those to which migrations were applied.
    pub fn migrated(&self) -> impl Iterator<Item = &TenantMigration> {
        self.tenants.iter().filter(|t| matches!(t.outcome, Outcome::Migrated { .. }))
    }

    /// Those in which nothing was pending.
    pub fn up_to_date(&self) -> impl Iterator<Item = &TenantMigration> {
        self.tenants.iter().filter(|t| matches!(t.outcome, Outcome::UpToDate))
    }
}

impl MultiTenancy {
    /// Applies what is pending to every active or suspended tenant: the main tenant first, then the
    /// others, several at once, each by its own provider. Goes on after a failure; a second run does
    /// what is left. Tenants are skipped whose provider is not one of this program's.
    ///
    /// # Errors
    /// `Config`: no schema was given, or `jobs` is 0. `TenantNotFound`: a tenant that was asked for
    /// by name is not there; nothing was migrated. As [`Catalog::list`](crate::Catalog::list). What
    /// happens to one tenant is in the report.
    pub async fn migrate_all(&self, options: MigrateAll) -> Result<FleetReport> {
        let began = Instant::now();
        let inner = &*self.inner;
        let schema =
            inner.schema.as_ref().ok_or_else(|| Error::new(ErrorKind::Config, NO_SCHEMA))?;
        let records = choose(inner.catalog.list().await?, &options)?;
        let total = records.len();
        let (main, others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| inner.main.as_ref() == Some(&record.tenant));
        let run = Arc::new(Run { schema: schema.clone(), options, total });
        let mut tenants = Vec::with_capacity(total);
        for batch in [main, others] {
            tenants.extend(migrate_batch(&self.inner, &run, batch).await);
        }
        // Databases that were made in advance get the schema, too.
        if !run.options.dry_run {
            inner.tend().await;
        }
        Ok(FleetReport { tenants, millis: millis_since(began) })
    }
}

pub(crate) const NO_SCHEMA: &str = "no schema; expected `with_schema`";

pub(crate) fn choose(
    records: Vec<TenantRecord>,
    options: &MigrateAll,
) -> Result<Vec<TenantRecord>> {
    if options.jobs == 0 {
        return Err(Error::new(ErrorKind::Config, "jobs is 0, expected 1 or more"));
    }
    let known: HashSet<&TenantId> = records.iter().map(|record| &record.tenant).collect();
    let named = options.tenants.iter().flatten().chain(&options.skip);
    if let Some(unknown) = named.clone().find(|tenant| !known.contains(tenant)) {
        return Err(
            Error::new(ErrorKind::TenantNotFound, "there is no such tenant").with_tenant(unknown)
        );
    }
    drop(known);
    Ok(records
        .into_iter()
        .filter(|record| options.tenants.as_ref().is_none_or(|t| t.contains(&record.tenant)))
        .filter(|record| !options.skip.contains(&record.tenant))
        .collect())
}

fn millis_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// One call of `migrate_all`.
struct Run {
    schema: Runner,
    options: MigrateAll,
    total: usize,
}

/// How many databases one job looks at before it migrates those that need it: enough to share the
/// cost of asking, few enough to spread over the jobs.
const LOOK_AT_ONCE: usize = 25;

/// Migrates `records`, `jobs` at once, each job a task of its own: they use every core, and a panic
/// costs the tenants of one job.
async fn migrate_batch(
    inner: &Arc<Inner>,
    run: &Arc<Run>,
    records: Vec<TenantRecord>,
) -> Vec<TenantMigration> {
    let jobs = run.options.jobs;
    let size = records.len().div_ceil(jobs).clamp(1, LOOK_AT_ONCE);
    // Of one provider each: it looks at some at once, and one that is slow holds up its own.
    let mut of_each: BTreeMap<String, Vec<TenantRecord>> = BTreeMap::new();
    for record in records {
        of_each.entry(record.provider.clone()).or_default().push(record);
    }
    let batches: Vec<Vec<TenantRecord>> =
        of_each.values().flat_map(|records| records.chunks(size)).map(<[_]>::to_vec).collect();
    let start = |batch: Vec<TenantRecord>| {
        let tenants: Vec<TenantId> = batch.iter().map(|record| record.tenant.clone()).collect();
        let (inner, run) = (Arc::clone(inner), Arc::clone(run));
        let task = tokio::spawn(async move { inner.migrate_some(&run, batch).await });
        async move {
            task.await.unwrap_or_else(|e| {
                let cause = Arc::new(e);
                let interrupted = |tenant| TenantMigration::interrupted(tenant, &cause);
                tenants.into_iter().map(interrupted).collect()
            })
        }
    };
    let mut all: Vec<TenantMigration> =
        stream::iter(batches).map(start).buffered(jobs).concat().await;
    all.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    all
}

impl Inner {
    /// Whether the tenant's database is looked into, before it is migrated where it needs that.
    pub(crate) fn needs_look(
        &self,
        schema: &Runner,
        options: &MigrateAll,
        record: &TenantRecord,
    ) -> bool {
        is_served(record)
            && self.elsewhere(record).is_none()
            && (options.verify || !is_believed(record) || !is_current(schema, record))
    }

    /// Looks at some tenants of one provider, then migrates those that need it, one after the other.
    async fn migrate_some(&self, run: &Run, records: Vec<TenantRecord>) -> Vec<TenantMigration> {
        let mut to_look_at: Vec<TenantId> = records
            .iter()
            .filter(|record| self.needs_look(&run.schema, &run.options, record))
            .map(|record| record.tenant.clone())
            .collect();
        let began = Instant::now();
        let provider = records.first().map(|record| self.provider(&record.provider));
        let mut known = HashMap::new();
        if let Some(Ok(provider)) = &provider {
            let believed = records.iter().filter(|record| is_believed(record));
            let believed: HashSet<&TenantId> = believed.map(|record| &record.tenant).collect();
            let to_ask: Vec<TenantId> =
                to_look_at.iter().filter(|tenant| believed.contains(tenant)).cloned().collect();
            known = self.recorded(run, provider, &to_ask).await;
            to_look_at.retain(|tenant| !known.contains_key(tenant));
        }
        let statuses = match &provider {
            Some(Ok(provider)) => run.schema.status_many(provider, &to_look_at).await,
            Some(Err(error)) => {
                let refused = |tenant| Err(error.clone().with_tenant(tenant));
                to_look_at.iter().map(refused).collect()
            }
            None => Vec::new(),
        };
        let look_millis = millis_since(began) / (to_look_at.len().max(1) as u64);
        known.extend(to_look_at.into_iter().zip(statuses.into_iter().map(Known::Looked)));

        let mut results = Vec::with_capacity(records.len());
        for record in records {
            let began = Instant::now();
            let known = known.remove(&record.tenant).unwrap_or(Known::Unasked);
            let looked = matches!(known, Known::Looked(_));
            let outcome = self.migrate_one(run, &record, known).await;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => {
                    self.note_failure(run, &record, &error).await;
                    Outcome::Failed { error }
                }
            };
            let millis = millis_since(began) + if looked { look_millis } else { 0 };
            let result = TenantMigration { tenant: record.tenant, outcome, millis };
            if let Some(progress) = &run.options.progress {
                progress(&result, run.total);
            }
            results.push(result);
        }
        results
    }

    /// What is recorded beside the databases of `tenants`, as far as it saves looking into them: one
    /// question for all. That it cannot be asked is no trouble: they are looked into then.
    async fn recorded(
        &self,
        run: &Run,
        provider: &OwnProvider,
        tenants: &[TenantId],
    ) -> HashMap<TenantId, Known> {
        if run.options.verify || tenants.is_empty() {
            return HashMap::new();
        }
        let recorded = provider.recorded_schemas(tenants).await.unwrap_or_else(|error| {
            tracing::debug!(error = %error.to_chain(), "what is recorded of schemas is not known");
            Vec::new()
        });
        let known = |recorded: RecordedSchema| {
            if recorded.schema.fingerprint.as_deref() == Some(run.schema.fingerprint()) {
                return Some(Known::Current(recorded));
            }
            // What exactly is pending only the ledger tells.
            (!run.options.dry_run).then_some(Known::Behind)
        };
        let tenants = tenants.iter().cloned().zip(recorded);
        tenants.filter_map(|(tenant, recorded)| Some((tenant, known(recorded?)?))).collect()
    }

    /// Notes in the catalog what is recorded beside the database.
    async fn believe(
        &self,
        run: &Run,
        record: &TenantRecord,
        recorded: RecordedSchema,
    ) -> Result<Outcome> {
        if !run.options.dry_run {
            let RecordedSchema { generation, schema } = recorded;
            let (version, fingerprint) = (schema.version.as_deref(), schema.fingerprint.as_deref());
            let tenant = &record.tenant;
            self.catalog.note_schema(tenant, generation, version, fingerprint).await?;
        }
        Ok(Outcome::UpToDate)
    }

    async fn migrate_one(&self, run: &Run, record: &TenantRecord, known: Known) -> Result<Outcome> {
        let tenant = &record.tenant;
        if let Some(reason) = self.elsewhere(record) {
            return Ok(Outcome::Skipped { reason });
        }
        let report = match known {
            Known::Unasked if is_current(&run.schema, record) => return Ok(Outcome::UpToDate),
            Known::Unasked => {
                return Ok(Outcome::Skipped { reason: format!("the tenant is {}", record.state) });
            }
            Known::Current(recorded) => return self.believe(run, record, recorded).await,
            Known::Behind => run.schema.up_behind(&self.provider_of(record)?, tenant).await,
            Known::Looked(Ok(status)) if run.options.dry_run => {
                return Ok(match status.pending {
                    pending if pending.is_empty() => Outcome::UpToDate,
                    pending => Outcome::Pending { pending },
                });
            }
            Known::Looked(Ok(status)) => {
                run.schema.up_from(&self.provider_of(record)?, tenant, &status).await
            }
            Known::Looked(Err(error)) => Err(error),
        };
        let report = match report {
            Err(error) if is_closed(record, &error) => {
                let reason =
                    format!("the tenant is {}, and its engine lets nobody in", record.state);
                return Ok(Outcome::Skipped { reason });
            }
            report => report?,
        };
        if !is_current(&run.schema, record) || record.schema_version != report.schema_version {
            let version = report.schema_version.as_deref();
            let generation = record.placement.generation;
            let fingerprint = Some(run.schema.fingerprint());
            self.catalog.note_schema(tenant, generation, version, fingerprint).await?;
        }
        if record.last_error.is_some() {
            self.catalog.note_error(tenant, None).await?;
        }
        if !report.not_atomic.is_empty() {
            tracing::info!(tenant = %tenant, migrations = ?report.not_atomic, "applied, but not as one atomic unit each");
        }
        Ok(match report.ran {
            ran if ran.is_empty() => Outcome::UpToDate,
            ran => Outcome::Migrated { ran, not_atomic: report.not_atomic },
        })
    }

    async fn note_failure(&self, run: &Run, record: &TenantRecord, error: &Error) {
        if run.options.dry_run {
            return;
        }
        let noted = self.catalog.note_error(&record.tenant, Some(&error.to_chain())).await;
        if let Err(second) = noted {
            tracing::error!(tenant = %record.tenant, error = %second.to_chain(), "a failed migration could not be noted in the catalog");
        }
    }
}

/// What is known of a tenant's schema before it is migrated.
#[expect(clippy::large_enum_variant, reason = "there are only as many as are looked at together")]
enum Known {
    /// What the catalog says.
    Unasked,
    /// It is recorded beside the database, and nothing is pending.
    Current(RecordedSchema),
    /// It is recorded beside the database, and is another.
    Behind,
    /// What its ledger says.
    Looked(Result<SchemaStatus>),
}

const fn is_served(record: &TenantRecord) -> bool {
    matches!(record.state, TenantState::Active | TenantState::Suspended)
}

/// Whether what is recorded of the tenant's schema can be believed: what failed last is looked at.
const fn is_believed(record: &TenantRecord) -> bool {
    record.last_error.is_none()
}

/// Whether the catalog says that the tenant has this schema.
pub(crate) fn is_current(schema: &Runner, record: &TenantRecord) -> bool {
    is_served(record) && record.schema_fingerprint.as_deref() == Some(schema.fingerprint())
}
