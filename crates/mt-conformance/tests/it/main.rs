//! The suite finds factories that break the contract, and does not accuse one that keeps it.
//!
//! Each fault stands beside a factory that is built the same way without the fault, so that a check
//! is seen to tell the two apart.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod seam;

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use mt_conformance::{CHECKS, MemoryPlacements, Subject, conformance_suite};
use mt_core::{DatabaseFactory, DeploymentId, FactoryContext};
use mt_sqlite::SqliteFactory;

use crate::{
    faults::{Fault, Faulty},
    seam::Batches,
};

/// An installation over the databases in `directory`.
fn installation(directory: &tempfile::TempDir) -> (Arc<SqliteFactory>, DeploymentId) {
    let deployment = DeploymentId::random();
    let context =
        FactoryContext::new(deployment).with_placements(Arc::new(MemoryPlacements::default()));
    let factory = SqliteFactory::builder()
        .with_directory(directory.path())
        .with_database_prefix("tenant_")
        // One installation waits for the other, which is never going to let go.
        .with_drain_timeout(Duration::from_secs(4))
        .with_context(context)
        .build()
        .unwrap();
    (Arc::new(factory), deployment)
}

/// A factory with `fault` around a good one.
fn subject(fault: Fault) -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let (good, deployment) = installation(&directory);
    let (stranger, _) = installation(&directory);
    let faulty: Arc<dyn DatabaseFactory> = Arc::new(Faulty::new(good, deployment, fault));
    Subject::new(faulty, stranger).with_keep(directory)
}

/// What `check` finds in a factory with `fault`.
async fn verdict(check: &str, fault: Fault) -> Result<(), mt_conformance::Violation> {
    let check = CHECKS.iter().find(|known| known.name == check).unwrap();
    check.run(&subject(fault)).await
}

/// Fails unless each of `checks` accuses `fault`, and none of them accuses `honest`.
async fn assert_caught(fault: Fault, honest: Fault, checks: &[&str]) {
    for check in checks {
        let violation = verdict(check, fault).await.expect_err(check);
        assert_eq!(violation.check, *check);
        if let Err(violation) = verdict(check, honest).await {
            panic!("{honest:?} is accused: {violation}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factory_that_opens_anothers_database_is_caught() {
    let checks = ["tenants_do_not_see_each_other", "ids_that_look_alike_have_their_own_databases"];
    assert_caught(Fault::OpensAnother, Fault::None, &checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_that_answers_with_a_foreign_row_is_caught() {
    let checks = ["tenants_do_not_see_each_other", "ids_that_look_alike_have_their_own_databases"];
    let honest = Fault::AnswersFrom { another: false };
    assert_caught(Fault::AnswersFrom { another: true }, honest, &checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_provision_that_empties_the_database_is_caught() {
    let checks = ["provision_twice_keeps_the_data"];
    assert_caught(Fault::ProvisionEmpties, Fault::None, &checks).await;
    assert_caught(Fault::ProvisionReplaces, Fault::None, &checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_handle_that_writes_is_caught() {
    let checks = [
        "a_read_handle_refuses_writes",
        "a_read_transaction_refuses_writes",
        "capabilities_are_true",
    ];
    assert_caught(Fault::ReadHandle { writes: true }, Fault::None, &checks).await;
    let honest = Fault::ReadHandle { writes: false };
    assert_caught(Fault::ReadHandle { writes: true }, honest, &checks[..2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_that_says_too_little_is_caught() {
    let checks = ["capabilities_are_true", "a_manifest_tells_what_was_written"];
    assert_caught(Fault::DeniesBackup, Fault::None, &checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_that_says_too_much_is_caught() {
    let checks = ["capabilities_are_true", "a_manifest_tells_what_was_written"];
    assert_caught(Fault::ClaimsBackup, Fault::None, &checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_lost_is_caught() {
    let checks = ["a_commit_lasts", "a_savepoint_is_rolled_back_alone"];
    let honest = Fault::Commits { lost: false };
    assert_caught(Fault::Commits { lost: true }, honest, &checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_guards_nothing_is_caught() {
    let checks = [
        "a_condition_that_does_not_hold_undoes_the_batch",
        "a_wrong_number_of_changed_rows_undoes_the_batch",
        "each_version_is_won_once",
    ];
    let honest = Fault::Batches(Batches::Atomic);
    assert_caught(Fault::Batches(Batches::Deaf), honest, &checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_torn_is_caught() {
    let checks = [
        "a_failing_batch_leaves_nothing",
        "a_condition_that_does_not_hold_undoes_the_batch",
        "a_wrong_number_of_changed_rows_undoes_the_batch",
        "a_guard_that_cannot_be_is_refused",
    ];
    let honest = Fault::Batches(Batches::Atomic);
    assert_caught(Fault::Batches(Batches::Torn), honest, &checks).await;
}

#[tokio::test]
async fn a_check_that_fails_removes_its_tenants() {
    let subject = subject(Fault::ProvisionEmpties);
    mt_conformance::provision_twice_keeps_the_data(&subject).await.unwrap_err();
    let left: Vec<_> = subject.factory.list().try_collect().await.unwrap();
    assert_eq!(left, []);
}

/// The suite over the same wrapper without a fault: nothing in it is due to the wrapper.
mod honest {
    use super::{Fault, Subject, conformance_suite, subject};

    async fn setup(_check: &str) -> Subject {
        subject(Fault::None)
    }

    conformance_suite!(setup);
}

/// The suite over a provider that has no capability: what is missing must be `Unsupported`, and the
/// rest must not need it.
mod minimal {
    use super::{Fault, Subject, conformance_suite, subject};

    async fn setup(_check: &str) -> Subject {
        subject(Fault::Minimal)
    }

    conformance_suite!(setup);
}
