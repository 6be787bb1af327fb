//! Tenants on all four providers at once: one catalog, one program.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use mt_cli::{Application, Exit, Options, Out, Settings};
use mt_control::{MigrateAll, MultiTenancy, MultiTenancyBuilder, Outcome, RestoreAs};
use mt_core::{CacheSettings, DataAdapters, ErrorKind, Registry, TenantId, TenantState};
use mt_devservers::{D1, Postgres, Turso};
use mt_tests::releases::{First, Second, runner};
use sea_orm::{ConnectionTrait as _, Statement};
use sea_orm_migration::MigratorTrait;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::tenant;

const PROVIDERS: [&str; 4] = ["d1", "postgres", "sqlite", "turso"];

type Environment = Vec<(String, String)>;

/// Real engines, and the folder of an installation on them.
struct Site {
    d1: D1,
    postgres: Postgres,
    turso: Turso,
    folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let (d1, postgres, turso) = tokio::join!(D1::start(), Postgres::start(), Turso::start());
        let folder = tempfile::tempdir().unwrap();
        Self { d1: d1.unwrap(), postgres: postgres.unwrap(), turso: turso.unwrap(), folder }
    }

    /// The settings of all of them.
    fn environment(&self) -> Environment {
        let own = self.d1.environment().into_iter();
        let own = own.chain(self.postgres.environment()).chain(self.turso.environment());
        let data = ("MT_DATA_DIR", self.folder.path().display().to_string());
        own.chain([data]).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    async fn open<M: MigratorTrait>(&self) -> MultiTenancy {
        self.open_with::<M>(self.environment(), |builder| builder).await
    }

    async fn open_with<M: MigratorTrait>(
        &self,
        environment: Environment,
        more: impl FnOnce(MultiTenancyBuilder) -> MultiTenancyBuilder,
    ) -> MultiTenancy {
        let settings = Settings::load_from(&Options::default(), environment).unwrap();
        let schema = runner::<M>().unwrap();
        let catalog = settings.catalog().open().await.unwrap();
        let isolation = settings.isolation(&catalog.context(&schema)).unwrap();
        let builder = MultiTenancy::builder().with_catalog(catalog).with_schema(schema);
        more(builder.with_database_isolation(isolation)).build().await.unwrap()
    }

    /// The tenants of which a provider has databases, asked past the control plane.
    async fn kept_by(&self, provider: &str, tenants: &MultiTenancy) -> Vec<String> {
        let mut settings = serde_json::Map::new();
        let prefix = format!("MT_{}__", provider.to_uppercase());
        for (name, value) in self.environment() {
            if let Some(key) = name.strip_prefix(&prefix) {
                settings.insert(key.to_lowercase(), value.into());
            }
        }
        if provider == "sqlite" {
            let directory = self.folder.path().join("tenants").display().to_string();
            settings.insert("directory".to_owned(), directory.into());
        }
        let context = tenants.catalog().context(&runner::<First>().unwrap());
        let registry = Registry::from_linked().unwrap();
        let factory = registry.create(provider, settings.into(), context).unwrap();
        let entries: Vec<_> = factory.list().try_collect().await.unwrap();
        let ids = entries.iter().map(|entry| entry.tenant.as_ref().unwrap().to_string());
        ids.collect()
    }
}

fn id_on(provider: &str) -> TenantId {
    tenant(&format!("on-{provider}"))
}

/// One tenant on each provider, with a note that says where.
async fn provision_all(tenants: &MultiTenancy) {
    for provider in PROVIDERS {
        let id = id_on(provider);
        let record = tenants.provision_on(&id, provider).await.unwrap();
        assert_eq!((record.state, record.provider.as_str()), (TenantState::Active, provider));
        note(&tenants.get_adapters(&id).await.unwrap(), provider).await;
    }
}

async fn note(data: &DataAdapters, text: &str) {
    let insert = format!("INSERT INTO notes (id, text) VALUES (1, '{text}')");
    data.execute_unprepared(&insert).await.unwrap();
}

async fn column(data: &DataAdapters, query: &str) -> Vec<String> {
    let query = Statement::from_string(data.get_database_backend(), query);
    let rows = data.read().query_all_raw(query).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn notes(tenants: &MultiTenancy, id: &TenantId) -> Vec<String> {
    column(&tenants.get_adapters(id).await.unwrap(), "SELECT text FROM notes").await
}

/// What became of each, by the provider that its id names.
fn outcomes(report: &mt_control::FleetReport) -> Vec<(&str, &Outcome)> {
    let of = |id: &'_ TenantId| PROVIDERS.into_iter().find(|p| id_on(p) == *id).unwrap();
    report.tenants.iter().map(|one| (of(&one.tenant), &one.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_is_kept_served_migrated_and_removed_by_its_own_provider() {
    let site = Site::start().await;
    // Fewer places than tenants: they share one cache.
    let few =
        |builder: MultiTenancyBuilder| builder.with_cache(CacheSettings::default().with_max(2));
    let first = site.open_with::<First>(site.environment(), few).await;
    provision_all(&first).await;
    for provider in PROVIDERS {
        assert_eq!(site.kept_by(provider, &first).await, [id_on(provider).as_str()], "{provider}");
    }
    for _ in 0..2 {
        for provider in PROVIDERS {
            assert_eq!(notes(&first, &id_on(provider)).await, [provider]);
        }
    }
    for provider in ["d1", "turso"] {
        let again = first.provision_on(&id_on(provider), "sqlite").await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::TenantExists);
    }
    let unknown = first.provision_on(&tenant("acme"), "oracle").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Config);
    assert_eq!(first.catalog().find(&tenant("acme")).await.unwrap(), None);

    let second = site.open::<Second>().await;
    let told = second.forecast_migrate_all(&MigrateAll::default()).await.unwrap();
    assert!(told.iter().all(|one| one.provider == "d1"), "only D1 rations requests: {told:?}");
    let report = second.migrate_all(MigrateAll::default()).await.unwrap();
    for (provider, outcome) in outcomes(&report) {
        assert!(
            matches!(outcome, Outcome::Migrated { ran, .. } if ran == &["m2_runs"]),
            "{provider}: {outcome:?}"
        );
    }
    let ids: Vec<&str> = report.tenants.iter().map(|one| one.tenant.as_str()).collect();
    assert_eq!(ids, ["on-d1", "on-postgres", "on-sqlite", "on-turso"], "ordered by id");
    for verify in [false, true] {
        let report = second.migrate_all(MigrateAll::default().with_verify(verify)).await.unwrap();
        assert_eq!(report.up_to_date().count(), 4, "{report:?}");
    }
    for provider in PROVIDERS {
        let id = id_on(provider);
        let data = second.get_adapters(&id).await.unwrap();
        assert_eq!(column(&data, "SELECT name FROM runs").await, ["m2_runs"], "{provider}");
        let status = second.status(&id).await.unwrap();
        assert_eq!((&status.fault, status.record.provider.as_str()), (&None, provider));
        assert!(status.schema.unwrap().is_current());
        second.suspend(&id).await.unwrap();
        assert_eq!(second.get_adapters(&id).await.unwrap_err().kind(), ErrorKind::TenantNotActive);
        second.activate(&id).await.unwrap();
        assert_eq!(notes(&second, &id).await, [provider]);
    }
    first.shutdown().await.unwrap();
    for provider in PROVIDERS {
        second.deprovision(&id_on(provider)).await.unwrap();
        assert!(site.kept_by(provider, &second).await.is_empty(), "{provider}");
    }
    assert!(second.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_and_is_never_answered_by_where_it_was() {
    let site = Site::start().await;
    let quick = |builder: MultiTenancyBuilder| builder.with_state_ttl(Duration::from_millis(50));
    let service = site.open_with::<First>(site.environment(), quick).await;
    let tenants = site.open::<First>().await;
    let acme = tenant("acme");
    tenants.provision_on(&acme, "sqlite").await.unwrap();
    note(&service.get_adapters(&acme).await.unwrap(), "moves").await;

    for (step, to) in ["turso", "d1", "sqlite"].into_iter().enumerate() {
        let before = service.get_adapters(&acme).await.unwrap();
        let copy = site.folder.path().join(format!("acme-{step}.tar"));
        tenants.backup(&acme, &copy).await.unwrap();
        tenants.deprovision(&acme).await.unwrap();
        let moved = RestoreAs::NewOn(acme.clone(), to.to_owned());
        let record = tenants.restore(&acme, &copy, moved).await.unwrap();
        assert_eq!((record.state, record.provider.as_str()), (TenantState::Active, to));
        // Every answer that the service gives from now on is of the new database.
        let data = loop {
            match service.get_adapters(&acme).await {
                Ok(data) => break data,
                Err(error) => assert!(
                    [
                        ErrorKind::TenantNotActive,
                        ErrorKind::TenantNotFound,
                        ErrorKind::ForeignDatabase
                    ]
                    .contains(&error.kind()),
                    "{}",
                    error.to_chain()
                ),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(data.stamp().generation, record.placement.generation);
        assert_eq!(column(&data, "SELECT text FROM notes").await, ["moves"], "{to}");
        assert!(before.is_revoked());
        for provider in PROVIDERS {
            let kept = site.kept_by(provider, &tenants).await;
            assert_eq!(kept, if provider == to { &["acme"][..] } else { &[] }, "{provider}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_broken_or_not_configured_is_in_nobodys_way() {
    let site = Site::start().await;
    let first = site.open::<First>().await;
    provision_all(&first).await;
    first.shutdown().await.unwrap();
    let without = |prefix: &str| {
        let mut environment = site.environment();
        environment.retain(|(name, _)| !name.starts_with(prefix));
        environment
    };
    let on_turso = id_on("turso");

    for (environment, is_configured) in
        [(without("MT_TURSO__API_TOKEN"), true), (without("MT_TURSO__"), false)]
    {
        let tenants = site.open_with::<First>(environment, |builder| builder).await;
        for provider in PROVIDERS.into_iter().filter(|provider| *provider != "turso") {
            assert_eq!(notes(&tenants, &id_on(provider)).await, [provider]);
        }
        for _ in 0..2 {
            let error = tenants.get_adapters(&on_turso).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{}", error.to_chain());
            assert_eq!(error.tenant(), Some(&on_turso));
            assert_eq!(error.to_string().contains("kept by `turso`"), !is_configured, "{error}");
        }
        let fault = tenants.status(&on_turso).await.unwrap().fault.unwrap();
        assert!(fault.contains("turso"), "{fault}");
        let new = tenant("new");
        let error = tenants.provision_on(&new, "turso").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.to_chain());
        assert_eq!(tenants.catalog().find(&new).await.unwrap(), None, "nothing was reserved");
        assert_eq!(tenants.deprovision(&on_turso).await.unwrap_err().kind(), ErrorKind::Config);

        let report = tenants.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
        for (provider, outcome) in outcomes(&report) {
            match outcome {
                Outcome::Failed { error } => {
                    assert!(is_configured && provider == "turso", "{}", error.to_chain());
                }
                Outcome::Skipped { .. } => assert!(!is_configured && provider == "turso"),
                other => assert!(matches!(other, Outcome::UpToDate) && provider != "turso"),
            }
        }
    }
    let mended = site.open::<First>().await;
    assert_eq!(notes(&mended, &on_turso).await, ["turso"]);
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn run<M: MigratorTrait>(environment: &Environment, args: &[&str]) -> (Exit, Value) {
    let application = Application::<M>::new().with_environment(environment.iter().cloned());
    let answers = Buffer::default();
    let args = ["mt", "--json"].iter().chain(args).map(ToString::to_string);
    let exit = application.run_from(args, &Out::new(answers.clone(), io::sink())).await;
    let answer = serde_json::from_slice(&answers.0.lock().unwrap()).unwrap();
    (exit, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_works_on_all_of_them() {
    let site = Site::start().await;
    let environment = site.environment();
    for provider in PROVIDERS {
        let args =
            ["provision", id_on(provider).as_str(), "--provider", provider].map(str::to_owned);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (exit, made) = run::<First>(&environment, &args).await;
        assert_eq!((exit, &made["tenant"]["provider"]), (Exit::Done, &provider.into()), "{made}");
    }
    let (exit, listed) = run::<First>(&environment, &["list"]).await;
    assert_eq!(exit, Exit::Done);
    let listed = listed["tenants"].as_array().unwrap().clone();
    assert!(listed.iter().map(|one| one["provider"].as_str().unwrap()).eq(PROVIDERS));
    let (exit, report) = run::<Second>(&environment, &["migrate-all"]).await;
    assert_eq!((exit, &report["counts"]["migrated"]), (Exit::Done, &4.into()), "{report}");
    let (exit, status) = run::<Second>(&environment, &["status"]).await;
    assert_eq!(exit, Exit::Done, "{status}");
    for one in status["tenants"].as_array().unwrap() {
        assert_eq!(one["schema"]["pending"].as_array().unwrap().len(), 0, "{one}");
    }
    let (exit, doctor) = run::<Second>(&environment, &["doctor"]).await;
    assert_eq!(exit, Exit::Done, "{doctor}");
    assert_eq!(doctor["provider"]["name"], "sqlite");
    let others = doctor["others"].as_array().unwrap();
    assert!(others.iter().map(|one| one["name"].as_str().unwrap()).eq(["d1", "postgres", "turso"]));
    assert_eq!(doctor["catalog"]["providers"]["turso"], 1);

    // What cannot be reached is told, and what can is still worked on.
    site.turso.sqld().kill().unwrap();
    let (exit, status) = run::<Second>(&environment, &["status"]).await;
    assert_eq!(exit, Exit::Failed);
    for one in status["tenants"].as_array().unwrap() {
        assert_eq!(one["fault"].is_string(), one["provider"] == "turso", "{one}");
    }
    let mut broken = environment.clone();
    broken.retain(|(name, _)| name != "MT_TURSO__GROUP");
    let (exit, doctor) = run::<Second>(&broken, &["doctor"]).await;
    assert_eq!(exit, Exit::Failed);
    let turso = &doctor["others"][2];
    assert!(turso["fault"].is_string() && turso["capabilities"].is_null(), "{turso}");
    for provider in ["d1", "postgres", "sqlite"] {
        let id = id_on(provider);
        let args = ["deprovision", id.as_str(), "--confirm", id.as_str()];
        let (exit, gone) = run::<Second>(&broken, &args).await;
        assert_eq!((exit, &gone["tenant"]["state"]), (Exit::Done, &"deleted".into()), "{gone}");
    }
}
