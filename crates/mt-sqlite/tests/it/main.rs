//! The contract, and what is particular to files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod processes;

use std::{path::Path, sync::Arc, time::Duration};

use mt_conformance::{MemoryPlacements, Subject};
use mt_core::{DeploymentId, FactoryContext, TenantId};
use mt_sqlite::{SqliteFactory, SqliteFactoryBuilder};

/// A factory over the files in `directory`, as one more process of the installation would have it.
fn builder(directory: &Path, context: &FactoryContext) -> SqliteFactoryBuilder {
    SqliteFactory::builder()
        .with_directory(directory)
        // Whoever is waited for in these tests is never going to let go.
        .with_drain_timeout(Duration::from_secs(2))
        .with_context(context.clone())
}

fn context() -> FactoryContext {
    FactoryContext::new(DeploymentId::random())
        .with_placements(Arc::new(MemoryPlacements::default()))
}

fn factory(directory: &Path, context: &FactoryContext) -> SqliteFactory {
    builder(directory, context).build().unwrap()
}

fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

async fn setup(_check: &str) -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let with_patience = |context: FactoryContext| {
        let builder = builder(directory.path(), &context);
        Arc::new(builder.with_drain_timeout(Duration::from_secs(5)).build().unwrap())
    };
    let (factory, stranger) = (with_patience(context()), with_patience(context()));
    Subject::new(factory, stranger).with_keep(directory)
}

mt_conformance::conformance_suite!(setup);

/// An embedded factory that keeps no placements can do everything but restore.
async fn embedded(_check: &str) -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let embedded = || {
        let context = FactoryContext::new(DeploymentId::random());
        let builder = builder(directory.path(), &context);
        Arc::new(builder.with_drain_timeout(Duration::from_secs(5)).build().unwrap())
    };
    Subject::new(embedded(), embedded()).with_keep(directory)
}

mod without_a_placement_store {
    mt_conformance::conformance_suite!(super::embedded);
}
