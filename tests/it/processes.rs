//! Processes that share a catalog on PostgreSQL, and meet on the same tenants.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Output, Stdio},
};

use futures_util::{StreamExt as _, stream};
use mt_control::{Catalog, DatabaseIsolation, MultiTenancy};
use mt_core::{CacheSettings, TenantId, TenantState};
use mt_devservers::Postgres;
use mt_tests::releases::{First, Second, runner};
use multi_tenancy::Registry;
use sea_orm::{ConnectionTrait as _, Statement};
use sea_orm_migration::MigratorTrait;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::tenant;

/// A server with the catalog and, with `postgres`, the tenants; a folder with them, with `sqlite`.
struct Site {
    server: Postgres,
    folder: TempDir,
    provider: &'static str,
}

impl Site {
    async fn start(provider: &'static str) -> Self {
        // Fewer connections than two migrators ask for at once.
        let server = Postgres::builder().setting("max_connections", "60").start().await.unwrap();
        Self { server, folder: tempfile::tempdir().unwrap(), provider }
    }

    /// Starts `fleet` in a process of its own.
    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
        command.args(args).args(["--json", "--provider", self.provider]);
        command.current_dir(self.folder.path()).envs(self.server.environment());
        command.env("MT_DATA_DIR", self.folder.path()).env("MT_CATALOG", self.server.url());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// A process of this test's own.
    async fn open<M: MigratorTrait>(&self) -> MultiTenancy {
        let schema = runner::<M>().unwrap();
        let catalog = Catalog::connect(&self.server.url()).await.unwrap();
        let environment: BTreeMap<_, _> = self.server.environment().into_iter().collect();
        let settings = match self.provider {
            "postgres" => json!({
                "admin_url": environment["MT_POSTGRES__ADMIN_URL"],
                "role_secret": environment["MT_POSTGRES__ROLE_SECRET"],
            }),
            _ => json!({ "directory": self.folder.path().join("tenants") }),
        };
        let registry = Registry::from_linked().unwrap();
        let factory = registry.create(self.provider, settings, catalog.context(&schema)).unwrap();
        MultiTenancy::builder()
            .with_catalog(catalog)
            .with_schema(schema)
            .with_cache(CacheSettings::default().with_max(4))
            .with_database_isolation(DatabaseIsolation::new(factory))
            .build()
            .await
            .unwrap()
    }
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The names in the first column of what `query` answers.
async fn column(tenants: &MultiTenancy, id: &TenantId, query: &str) -> Vec<String> {
    let data = tenants.get_adapters(id).await.unwrap();
    let query = Statement::from_string(data.get_database_backend(), query);
    let rows = data.query_all_raw(query).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// What ran in each of two processes that migrate everything at once, by tenant.
fn migrate_twice_at_once(site: &Site, args: &[&str]) -> BTreeMap<String, Vec<String>> {
    let args = [&["second", "migrate-all"], args].concat();
    let both = [(); 2].map(|()| site.spawn(&args));
    let mut ran: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for child in both {
        let output = child.wait_with_output().unwrap();
        let report = answer(&output);
        assert!(output.status.success(), "{report}");
        assert_eq!(report["counts"]["failed"], 0, "{report}");
        for one in report["tenants"].as_array().unwrap() {
            let names = one["ran"].as_array().into_iter().flatten();
            let names = names.map(|name| name.as_str().unwrap().to_owned());
            ran.entry(one["tenant"].as_str().unwrap().to_owned()).or_default().extend(names);
        }
    }
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fleet_migrators_apply_each_migration_once_on_fifty_databases() {
    let site = Site::start("postgres").await;
    let ids: Vec<TenantId> = (0..50).map(|number| tenant(&format!("t{number}"))).collect();
    let first = site.open::<First>().await;
    let made = ids.iter().map(|id| first.provision(id));
    for one in stream::iter(made).buffered(4).collect::<Vec<_>>().await {
        one.unwrap();
    }
    first.shutdown().await.unwrap();

    let ran = migrate_twice_at_once(&site, &[]);
    assert_eq!(ran.len(), ids.len());
    for (id, names) in &ran {
        assert_eq!(names, &["m2_runs"], "{id}: by one of the two");
    }
    let second = site.open::<Second>().await;
    for id in &ids {
        assert_eq!(column(&second, id, "SELECT name FROM runs").await, ["m2_runs"], "{id}");
        let ledger = "SELECT version FROM seaql_migrations ORDER BY version";
        assert_eq!(column(&second, id, ledger).await, ["m1_notes", "m2_runs"], "{id}");
        let record = second.catalog().get(id).await.unwrap();
        assert_eq!(record.schema_version.as_deref(), Some("m2_runs"));
        assert_eq!(record.last_error, None);
    }
    second.shutdown().await.unwrap();
    // And once more there is nothing to do, however hard one looks.
    for args in [&[][..], &["--verify"]] {
        let ran = migrate_twice_at_once(&site, args);
        assert!(ran.values().all(Vec::is_empty), "{ran:?}");
    }
}

/// Four processes make one tenant, and then another each, again and again.
async fn four_processes_provision(provider: &'static str) {
    let site = Site::start(provider).await;
    for round in 0..4 {
        let same = format!("same-{round}");
        let spawn_same = |_| site.spawn(&["first", "provision", &same]);
        let others: Vec<String> = (0..4).map(|number| format!("own-{round}-{number}")).collect();
        let spawn_own = |own: &String| site.spawn(&["first", "provision", own]);
        let same: Vec<Child> = (0..4).map(spawn_same).collect();
        let own: Vec<Child> = others.iter().map(spawn_own).collect();
        let mut made = 0;
        for child in same {
            let output = child.wait_with_output().unwrap();
            let answer = answer(&output);
            if output.status.success() {
                made += 1;
                assert_eq!(answer["tenant"]["state"], "active", "{answer}");
            } else {
                assert_eq!(answer["error"]["kind"], "tenant_exists", "{answer}");
            }
        }
        assert!(made >= 1);
        for child in own {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", answer(&output));
        }
    }
    let tenants = site.open::<First>().await;
    let records = tenants.list().await.unwrap();
    assert_eq!(records.len(), 4 * 5);
    for record in records {
        assert_eq!((record.state, &record.last_error), (TenantState::Active, &None));
        let ledger = "SELECT version FROM seaql_migrations";
        assert_eq!(column(&tenants, &record.tenant, ledger).await, ["m1_notes"]);
    }
    tenants.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_provision_databases_of_a_server() {
    four_processes_provision("postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_provision_files() {
    four_processes_provision("sqlite").await;
}
