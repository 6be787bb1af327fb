//! One schema for all tenants.

use std::{collections::HashSet, fmt, sync::Arc, time::Instant};

use futures_util::{StreamExt as _, stream};
use mt_core::{Error, ErrorKind, Result, TenantId, TenantState};
use mt_migration::Runner;
use serde::{Serialize, Serializer};

use crate::{MultiTenancy, TenantRecord, multi_tenancy::Inner};

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
    /// pending, and mends the catalog.
    pub const fn with_verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
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

/// What became of one tenant.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Migrations were applied.
    Migrated {
        /// Which, in order.
        ran: Vec<String>,
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
    /// others, several at once. Goes on after a failure; a second run does what is left.
    ///
    /// # Errors
    /// `Config`: no schema was given, or `jobs` is 0. `TenantNotFound`: a tenant that was asked for
    /// by name is not there; nothing was migrated. As [`Catalog::list`](crate::Catalog::list). What
    /// happens to one tenant is in the report.
    pub async fn migrate_all(&self, options: MigrateAll) -> Result<FleetReport> {
        let began = Instant::now();
        let inner = &*self.inner;
        let schema = inner
            .schema
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Config, "no schema; expected `with_schema`"))?;
        if options.jobs == 0 {
            return Err(Error::new(ErrorKind::Config, "jobs is 0, expected 1 or more"));
        }
        let records = choose(inner.catalog.list().await?, &options)?;
        let total = records.len();
        let (main, others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| inner.main.as_ref() == Some(&record.tenant));
        let one = |record| inner.migrate_one(schema, record, &options, total);
        let mut tenants: Vec<TenantMigration> =
            stream::iter(main).then(one).collect::<Vec<_>>().await;
        let others = stream::iter(others).map(one).buffered(options.jobs);
        tenants.extend(others.collect::<Vec<_>>().await);
        Ok(FleetReport { tenants, millis: millis_since(began) })
    }
}

fn choose(records: Vec<TenantRecord>, options: &MigrateAll) -> Result<Vec<TenantRecord>> {
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

impl Inner {
    async fn migrate_one(
        &self,
        schema: &Runner,
        record: TenantRecord,
        options: &MigrateAll,
        total: usize,
    ) -> TenantMigration {
        let began = Instant::now();
        let tenant = record.tenant.clone();
        let outcome = match self.try_migrate(schema, &record, options).await {
            Ok(outcome) => outcome,
            Err(error) => {
                if !options.dry_run
                    && let Err(second) =
                        self.catalog.note_error(&tenant, Some(&error.to_chain())).await
                {
                    tracing::error!(tenant = %tenant, error = %second.to_chain(), "a failed migration could not be noted in the catalog");
                }
                Outcome::Failed { error }
            }
        };
        let result = TenantMigration { tenant, outcome, millis: millis_since(began) };
        if let Some(progress) = &options.progress {
            progress(&result, total);
        }
        result
    }

    async fn try_migrate(
        &self,
        schema: &Runner,
        record: &TenantRecord,
        options: &MigrateAll,
    ) -> Result<Outcome> {
        let tenant = &record.tenant;
        if ![TenantState::Active, TenantState::Suspended].contains(&record.state) {
            return Ok(Outcome::Skipped { reason: format!("the tenant is {}", record.state) });
        }
        let is_current = record.schema_fingerprint.as_deref() == Some(schema.fingerprint());
        if is_current && !options.verify {
            return Ok(Outcome::UpToDate);
        }
        if options.dry_run {
            let status = schema.status(&self.cached, tenant).await?;
            return Ok(match status.pending {
                pending if pending.is_empty() => Outcome::UpToDate,
                pending => Outcome::Pending { pending },
            });
        }
        let report = schema.up(&self.cached, tenant).await?;
        if !is_current || record.schema_version != report.schema_version {
            let version = report.schema_version.as_deref();
            self.catalog.note_schema(tenant, version, Some(schema.fingerprint())).await?;
        }
        if record.last_error.is_some() {
            self.catalog.note_error(tenant, None).await?;
        }
        Ok(match report.ran {
            ran if ran.is_empty() => Outcome::UpToDate,
            ran => Outcome::Migrated { ran },
        })
    }
}
