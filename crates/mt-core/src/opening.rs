use std::{any::Any, fmt, sync::Arc, time::Instant};

use crate::{
    Connections, DataAdapters, DeploymentId, Generation, ReadOnly, Result, TenantId,
    adapters::{Inner, Parked},
    gate::Gate,
    session::Session,
    stamp::StampRow,
};

/// How [`DataAdapters`] are made: what is known of the database, and what to keep with it.
#[must_use = "nothing is checked until `open`"]
pub struct Opening {
    deployment: DeploymentId,
    tenant: TenantId,
    generation: Generation,
    provider: &'static str,
    primary: Connections,
    read: Option<Connections>,
    read_only: ReadOnly,
    ledger: Option<String>,
    hold: Option<Box<dyn Any + Send + Sync>>,
}

impl Opening {
    pub(crate) fn new(tenant: &TenantId, deployment: DeploymentId, primary: Connections) -> Self {
        Self {
            deployment,
            tenant: tenant.clone(),
            generation: Generation::FIRST,
            provider: "custom",
            primary,
            read: None,
            read_only: ReadOnly::Handle,
            ledger: None,
            hold: None,
        }
    }

    /// Says which generation is expected. Default: [`Generation::FIRST`].
    pub fn with_generation(mut self, generation: Generation) -> Self {
        self.generation = generation;
        self
    }

    /// Names the provider, for errors. Default: `custom`.
    pub fn with_provider(mut self, provider: &'static str) -> Self {
        self.provider = provider;
        self
    }

    /// Gives the connections behind [`DataAdapters::read`], and says who keeps it from writing.
    /// Default: the primary, kept from writing by the handle.
    pub fn with_read(mut self, connections: impl Into<Connections>, read_only: ReadOnly) -> Self {
        self.read = Some(connections.into());
        self.read_only = read_only;
        self
    }

    /// Names the migration ledger whose newest entry is the schema version. Default: none is read.
    pub fn with_ledger(mut self, table: impl Into<String>) -> Self {
        self.ledger = Some(table.into());
        self
    }

    /// Keeps `hold` until the connections are closed.
    pub fn with_hold(mut self, hold: impl Any + Send + Sync) -> Self {
        self.hold = Some(Box::new(hold));
        self
    }

    /// Reads the stamp and the schema version in one query, and gives out the handle if the
    /// database is the tenant's. Otherwise everything is closed again.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `ForeignDatabase` | the stamp is missing, or names another tenant, deployment or generation |
    /// | `Corrupt` | the stamp cannot be understood |
    /// | `Unavailable` | no answer; the database's error is the source |
    pub async fn open(self) -> Result<DataAdapters> {
        // Made first: also a cancelled open closes before it lets go of what is held.
        // The primary closes last: the last to close folds the log into the file, and one that only
        // reads cannot.
        let connections = [self.read.clone(), Some(self.primary.clone())];
        let session = Session::new(connections.into_iter().flatten());
        if let Some(hold) = self.hold {
            session.hold(hold);
        }
        let read = StampRow::read(&self.primary, &self.tenant, self.ledger.as_deref()).await;
        let row = read.and_then(|row| {
            row.stamp.check(self.deployment, &self.tenant, self.generation).map(|()| row)
        });
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                session.close().await;
                return Err(error.with_provider(self.provider));
            }
        };
        let inner = Inner {
            gate: Arc::new(Gate::new(self.tenant.clone())),
            tenant: self.tenant,
            provider: self.provider,
            row,
            opened_at: Instant::now(),
            primary: self.primary,
            read: self.read,
            read_only: self.read_only,
            session,
        };
        Ok(Parked::new(inner).lend())
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("tenant", &self.tenant)
            .field("generation", &self.generation)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}
