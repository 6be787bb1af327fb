//! The contract on the real cloud, and what only the real cloud can tell.
//!
//! Runs with `MT_TEST_TURSO_ORGANIZATION`, `MT_TEST_TURSO_GROUP` and `MT_TEST_TURSO_API_TOKEN`, and
//! makes and removes databases there. Without them every test is reported as ignored, and with
//! `MT_TEST_REQUIRE=turso-cloud` as failed.

#![expect(clippy::print_stderr, reason = "whoever runs it is told what was left out")]

use std::{process::ExitCode, sync::Arc, time::Duration};

use libtest_mimic::{Arguments, Failed, Trial};
use mt_conformance::{CHECKS, MemoryPlacements, Subject};
use mt_core::{DatabaseFactory as _, DeploymentId, ErrorKind, FactoryContext};
use mt_turso::{CreateDatabase, TursoFactory};

/// Whom to ask, and with which right.
#[derive(Clone)]
struct Cloud {
    organization: String,
    group: String,
    token: String,
}

const VARIABLES: [&str; 3] =
    ["MT_TEST_TURSO_ORGANIZATION", "MT_TEST_TURSO_GROUP", "MT_TEST_TURSO_API_TOKEN"];

impl Cloud {
    fn from_environment() -> Option<Self> {
        let [organization, group, token] = VARIABLES.map(|name| std::env::var(name).ok());
        Some(Self { organization: organization?, group: group?, token: token? })
    }

    fn factory(&self) -> Arc<TursoFactory> {
        let placements = Arc::new(MemoryPlacements::default());
        let context = FactoryContext::new(DeploymentId::random()).with_placements(placements);
        let builder = TursoFactory::builder()
            .with_organization(&self.organization)
            .with_group(&self.group)
            .with_api_token(&self.token)
            .with_database_prefix("mt-live-")
            .with_context(context);
        Arc::new(builder.build().expect("the settings of the live tests"))
    }

    fn subject(&self) -> Subject {
        // Requests to a real cloud, one after the other.
        Subject::new(self.factory(), self.factory())
            .with_secret(&self.token)
            .with_limit(Duration::from_secs(600))
    }
}

type Question = (&'static str, fn(&Cloud) -> Result<(), Failed>);

/// What facts told by others leave open.
const QUESTIONS: [Question; 2] = [
    ("a_duplicate_is_found_and_not_made_again", |cloud| {
        run(async {
            let factory = cloud.factory();
            let name = format!("mt-live-x{}", DeploymentId::random().to_string().replace('-', ""));
            let create = CreateDatabase::new(&name[..40], &cloud.group);
            let first = factory.platform().create_database(&create).await;
            let second = factory.platform().create_database(&create).await;
            let removed = factory.platform().delete_database(&name[..40]).await;
            let (first, second) = (first.map_err(chain)?, second.map_err(chain)?);
            removed.map_err(chain)?;
            if !first.created || second.created || first.database.id != second.database.id {
                return Err(format!("{first:?}, then {second:?}").into());
            }
            Ok(())
        })
    }),
    ("a_tenant_that_is_not_there_is_not_found", |cloud| {
        run(async {
            let factory = cloud.factory();
            let nobody = mt_core::TenantId::new("nobody").map_err(chain)?;
            match factory.describe(&nobody).await {
                Err(error) if error.kind() == ErrorKind::TenantNotFound => Ok(()),
                other => Err(format!("{other:?}").into()),
            }
        })
    }),
];

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
fn chain(error: mt_core::Error) -> Failed {
    error.to_chain().into()
}

fn run(question: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime?.block_on(question)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cloud = Cloud::from_environment();
    let required = std::env::var("MT_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|name| name == "turso-cloud");
    let ignored = cloud.is_none() && !required;
    if ignored && !arguments.list {
        eprintln!("SKIPPED turso-cloud: set {}", VARIABLES.join(", "));
    }
    let trial = |name: &str, work: Box<dyn FnOnce(Cloud) -> Result<(), Failed> + Send>| {
        let cloud = cloud.clone();
        let work = move || match cloud {
            Some(cloud) => work(cloud),
            None => Err(format!("required, and not set: {}", VARIABLES.join(", ")).into()),
        };
        Trial::test(name, work).with_ignored_flag(ignored)
    };
    let checks = CHECKS.iter().map(|check| {
        let work = move |cloud: Cloud| {
            run(async { check.run(&cloud.subject()).await.map_err(|e| e.to_string().into()) })
        };
        trial(check.name, Box::new(work))
    });
    let questions =
        QUESTIONS.iter().map(|(name, ask)| trial(name, Box::new(move |cloud| ask(&cloud))));
    libtest_mimic::run(&arguments, checks.chain(questions).collect()).exit_code()
}
