//! Against the engine that D1 runs on, through the client.

use std::{sync::Arc, time::Duration};

use mt_core::{Driver, Secret};
use mt_devservers::D1;
use mt_remote::{
    Decoder, Endpoint, HttpSettings, RemoteDriver, Value, conformance::DriverSubject, http_client,
};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use super::super::{D1Protocol, Shapes};
use crate::{
    api::{ApiLimits, CreateDatabase, Creation, D1Client, Target},
    budget::{Budget, BudgetSettings, Lane},
};

/// An account with as many databases as are asked for.
pub(super) struct Site {
    pub(super) server: D1,
    client: D1Client,
}

impl Site {
    pub(super) async fn start() -> Self {
        let server = D1::start().await.unwrap();
        let timeout = Duration::from_secs(30);
        let http = http_client(HttpSettings { connect_timeout: timeout, timeout }).unwrap();
        // The bound is the service's, and this one has none.
        let settings = BudgetSettings { requests: 1_000_000, ..BudgetSettings::default() };
        let client = D1Client::of_account(
            http,
            Endpoint::new(&server.api_url()).unwrap(),
            server.account_id(),
            Secret::new(server.api_token()),
            Arc::new(Budget::new(settings).unwrap()),
            ApiLimits::default(),
        );
        Self { server, client: client.unwrap() }
    }

    pub(super) async fn database(&self, name: &str) -> Target {
        match self.client.create(&CreateDatabase::new(name)).await.unwrap() {
            Creation::Created(database) => {
                Target::new(self.client.clone(), database.uuid, Lane::Control)
            }
            Creation::Exists(database) => panic!("it is there: {database:?}"),
        }
    }

    pub(super) async fn protocol(&self, name: &str) -> D1Protocol {
        D1Protocol::new(Arc::new(self.database(name).await), Shapes::new())
    }
}

async fn setup(_check: &str) -> DriverSubject {
    let site = Site::start().await;
    let driver = RemoteDriver::new(site.protocol("mt_a").await, Decoder::new(2));
    DriverSubject::new(Arc::new(driver))
        .without_transactions()
        .without_savepoints()
        .without_streaming()
        .with_keep(site.server)
}

mt_remote::driver_conformance_suite!(setup);

#[tokio::test]
async fn long_lists_and_many_rows_pass_in_one_request() {
    let site = Site::start().await;
    let protocol = site.protocol("mt_a").await;
    let requests = || site.server.requests().total();
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b REAL, c BLOB, d)";
    super::run(&protocol, table, vec![]).await;
    let mut values = Vec::new();
    for n in 0..1_000_i32 {
        values.extend([
            Value::Integer(i64::MAX - i64::from(n)),
            Value::Text(format!("note {n} \u{1f980}")),
            Value::Real(f64::from(n) / 7.0),
            Value::Blob(n.to_be_bytes().to_vec()),
            if n % 2 == 0 { Value::Null } else { Value::Text(format!("a\0{n}")) },
        ]);
    }
    let rows = vec!["(?, ?, ?, ?, ?)"; 1_000].join(", ");
    let (before, begin) = (requests(), std::time::Instant::now());
    let sql = format!("INSERT INTO t (id, a, b, c, d) VALUES {rows}");
    assert_eq!(super::run(&protocol, &sql, values.clone()).await.rows_affected, 1_000);
    println!("1,000 rows of 5 columns took {:?}", begin.elapsed());
    let begin = std::time::Instant::now();
    let ids = (0..5_000).map(|n| Value::Integer(i64::MAX - n)).collect();
    let places = vec!["?"; 5_000].join(", ");
    let sql = format!(
        r#"SELECT "t"."id", "t"."a", "t"."b", "t"."c", "t"."d" FROM "t"
           WHERE "t"."id" IN ({places}) ORDER BY "t"."id" DESC"#
    );
    let answer = super::run(&protocol, &sql, ids).await;
    println!("1,000 rows by 5,000 ids took {:?}", begin.elapsed());
    let expected: Vec<_> = values.chunks(5).map(<[Value]>::to_vec).collect();
    assert!(answer.rows == expected);
    assert_eq!(requests() - before, 2);
}

/// Doubles that a decimal reader gets wrong easily, and those at the ends.
#[tokio::test]
async fn hard_doubles_come_back_to_the_bit() {
    let site = Site::start().await;
    let protocol = site.protocol("mt_a").await;
    let mut doubles = vec![
        9_007_199_254_740_993.0,
        9_007_199_254_740_991.0,
        -9_007_199_254_740_989.0,
        4_503_599_627_370_497.0,
        2.225_073_858_507_201e-308,
        2.225_073_858_507_201_4e-308,
        5e-324,
        1.797_693_134_862_315_7e308,
        6.929_001_713_869_936e236,
        5e-320,
        1.3e-316,
        8.533e68,
        4.149_68e13,
        7.888_609_052_210_118e-31,
        9.869_604_401_089_358,
        0.1 + 0.2,
        1e23,
        8.5e22,
        -0.0,
        0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    // A walk over all exponents.
    let mut bits = 0x1234_5678_9abc_def0_u64;
    for _ in 0..1_000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        doubles.push(f64::from_bits(bits));
    }
    doubles.retain(|double| !double.is_nan());
    super::run(&protocol, "CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL, x)", vec![]).await;
    // One by one and packed: both ways of sending.
    for count in [30, 300] {
        for (at, chunk) in doubles.chunks(count).enumerate() {
            super::run(&protocol, "DELETE FROM t", vec![]).await;
            let rows: Vec<_> = (1..=chunk.len()).map(|n| format!("(?{n}, ?{n})")).collect();
            let sql = format!("INSERT INTO t (r, x) VALUES {}", rows.join(", "));
            let values = chunk.iter().copied().map(Value::Real).collect();
            super::run(&protocol, &sql, values).await;
            let read = r#"SELECT "t"."r", "t"."x" FROM "t" ORDER BY "t"."id""#;
            let answer = super::run(&protocol, read, vec![]).await;
            assert_eq!(answer.rows.len(), chunk.len(), "chunk {at}");
            for (row, double) in answer.rows.iter().zip(chunk) {
                let [Value::Real(stored), Value::Real(kept)] = row[..] else {
                    panic!("{double:e} came back as {row:?}");
                };
                assert_eq!(kept.to_bits(), double.to_bits(), "{double:e} came back as {kept:e}");
                // A REAL column stores a whole number as an integer, which has no negative zero.
                assert!(stored.to_bits() == double.to_bits() || *double == 0.0 && stored == 0.0);
            }
        }
    }
}

#[tokio::test]
async fn a_handle_that_only_reads_does_not_write() {
    use mt_core::{Connection, DataAdapters, DeploymentId, Generation, Stamp, TenantId};
    let site = Site::start().await;
    let protocol = site.protocol("mt_a").await;
    let driver: Arc<dyn Driver> = Arc::new(RemoteDriver::new(protocol, Decoder::new(1)));
    let (tenant, deployment) = (TenantId::new("acme").unwrap(), DeploymentId::random());
    let stamp = Stamp::new(deployment, &tenant, Generation::FIRST);
    driver.batch(stamp.to_statements(DbBackend::Sqlite, None)).await.unwrap();
    let connection = Connection::Driver(driver);
    let data = DataAdapters::open(&tenant, deployment, connection).await.unwrap();
    let sql = |sql: &str| Statement::from_string(DbBackend::Sqlite, sql);
    data.execute_raw(sql("CREATE TABLE t (a)")).await.unwrap();
    let before = site.server.requests().total();
    for refused in ["INSERT INTO t VALUES (1)", "DROP TABLE t", "PRAGMA optimize"] {
        assert!(data.read().execute_raw(sql(refused)).await.is_err(), "{refused}");
    }
    assert_eq!(site.server.requests().total(), before);
    let row = data.read().query_one_raw(sql("SELECT COUNT(*) AS n FROM t")).await.unwrap();
    assert_eq!(row.unwrap().try_get::<i64>("", "n").unwrap(), 0);
}
