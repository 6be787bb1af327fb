//! The provider against the suite, and what the suite cannot see.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod control;
mod folders;

use std::sync::Arc;

use custom_provider::{FoldersConfig, FoldersFactory};
use mt_conformance::Subject;
use mt_core::{DatabaseFactory, DeploymentId, FactoryContext};

/// Two installations over the same folders.
async fn setup(_check: &str) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let installation = || -> Arc<dyn DatabaseFactory> {
        let context = FactoryContext::new(DeploymentId::random());
        Arc::new(FoldersFactory::new(FoldersConfig::new(folder.path()), context).unwrap())
    };
    Subject::new(installation(), installation()).with_keep(folder)
}

mod conformance {
    mt_conformance::conformance_suite!(super::setup);
}
