//! What every driver promises, over the real engine, in both encodings.

use mt_core::{DeploymentId, Driver, FactoryContext, Generation};
use mt_devservers::{
    Turso,
    turso::{Fault, Rule},
};
use mt_remote::conformance::DriverSubject;
use sea_orm::{DbBackend, Statement, TransactionOptions};

use super::encoding::Encoding;
use crate::{Authorization, CreateDatabase, TursoFactory, place::Place};

async fn server() -> Turso {
    Turso::start().await.unwrap_or_else(|error| panic!("no server: {error:#}"))
}

/// A factory, and where an empty database of its own is.
async fn empty(server: &Turso) -> (TursoFactory, Place) {
    let factory = TursoFactory::builder()
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_organization(server.organization())
        .with_group(server.group())
        .with_context(FactoryContext::new(DeploymentId::random()))
        .build()
        .unwrap();
    let create = CreateDatabase::new("empty", server.group());
    let created = factory.platform().create_database(&create).await.unwrap();
    let place = Place::new(Generation::FIRST, &created.database);
    (factory, place)
}

async fn subject(encoding: Encoding) -> DriverSubject {
    let server = server().await;
    let (factory, place) = empty(&server).await;
    match encoding {
        Encoding::Protobuf => factory.encoding.confirm_protobuf(),
        // It is not believed at once.
        Encoding::Json => (0..3).for_each(|_| factory.encoding.deny_protobuf()),
    }
    assert_eq!(factory.encoding.get(), Some(encoding));
    let driver = factory.driver(&place, Authorization::FullAccess).unwrap();
    DriverSubject::new(driver).with_keep(server)
}

async fn protobuf(_check: &str) -> DriverSubject {
    subject(Encoding::Protobuf).await
}

mt_remote::driver_conformance_suite!(protobuf);

mod json {
    use super::*;

    async fn json(_check: &str) -> DriverSubject {
        subject(Encoding::Json).await.without_infinity()
    }

    mt_remote::driver_conformance_suite!(json);
}

/// One query, with how many requests it took.
async fn ask(server: &Turso, driver: &dyn Driver) -> u64 {
    let before = server.requests().total();
    let sum = Statement::from_sql_and_values(DbBackend::Sqlite, "SELECT ? + 1", [41_i64.into()]);
    let rows = driver.query(sum).await.unwrap();
    assert_eq!(rows[0].try_get_by_index::<i64>(0).unwrap(), 42);
    server.requests().total() - before
}

#[tokio::test]
async fn protobuf_is_spoken_where_the_server_has_it() {
    let server = server().await;
    let (factory, place) = empty(&server).await;
    let driver = factory.driver(&place, Authorization::FullAccess).unwrap();
    assert_eq!(factory.encoding.get(), None);
    // Nothing is asked beforehand.
    assert_eq!(ask(&server, &*driver).await, 1);
    assert_eq!(factory.encoding.get(), Some(Encoding::Protobuf));
    assert_eq!(server.requests().count("POST", "/v3-protobuf/pipeline"), 1);
}

#[tokio::test]
async fn json_is_spoken_where_the_server_has_no_other() {
    for status in [404, 405, 415] {
        let server = server().await;
        let (factory, place) = empty(&server).await;
        let driver = factory.driver(&place, Authorization::FullAccess).unwrap();
        let no_route = Fault::error(status, "there is nothing here");
        server.data_faults().add(Rule::new(no_route).path("v3-protobuf"));
        // Tried, said in JSON, and asked whether it is so, until it is believed.
        for _ in 0..3 {
            assert_eq!(factory.encoding.get(), None, "{status}");
            assert_eq!(ask(&server, &*driver).await, 3, "{status}");
        }
        assert_eq!(factory.encoding.get(), Some(Encoding::Json), "{status}");
        assert_eq!(ask(&server, &*driver).await, 1, "{status}");
        // The factory knows it of every database.
        let other = factory.driver(&place, Authorization::ReadOnly).unwrap();
        assert_eq!(ask(&server, &*other).await, 1, "{status}");
    }
}

#[tokio::test]
async fn a_proxy_that_fails_for_a_moment_says_nothing_of_the_encoding() {
    for (status, times) in [(404, 2), (400, 20)] {
        let server = server().await;
        let (factory, place) = empty(&server).await;
        let driver = factory.driver(&place, Authorization::FullAccess).unwrap();
        let page = Rule::new(Fault::html(status)).path("v3-protobuf").times(times);
        let hits = server.data_faults().add(page);
        for _ in 0..times / 2 {
            assert_eq!(ask(&server, &*driver).await, 3, "{status}");
            assert_eq!(factory.encoding.get(), None, "{status}");
        }
        assert_eq!(hits.count(), times);
        assert_eq!(ask(&server, &*driver).await, 1, "{status}");
        assert_eq!(factory.encoding.get(), Some(Encoding::Protobuf), "{status}");
    }
}

#[tokio::test]
async fn a_database_that_was_not_there_yet_says_nothing_of_the_encoding() {
    let server = server().await;
    let (factory, place) = empty(&server).await;
    let driver = factory.driver(&place, Authorization::FullAccess).unwrap();
    let missing = Fault::error(404, "Namespace `x` doesn't exist");
    let hits = server.data_faults().add(Rule::new(missing).path("pipeline").times(1));
    assert_eq!(ask(&server, &*driver).await, 3);
    assert_eq!((hits.count(), factory.encoding.get()), (1, Some(Encoding::Protobuf)));
    assert_eq!(ask(&server, &*driver).await, 1);
}

#[tokio::test]
async fn a_transaction_goes_on_in_the_encoding_it_began_in() {
    let server = server().await;
    let (factory, place) = empty(&server).await;
    let driver = factory.driver(&place, Authorization::FullAccess).unwrap();
    // The server has no Protobuf, and cannot be asked about it either.
    server.data_faults().add(Rule::new(Fault::error(404, "no")).method("POST").path("protobuf"));
    server.data_faults().add(Rule::new(Fault::error(503, "later")).path("protobuf"));
    let run = async |sql: &str| {
        driver.execute(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap();
    };
    run("CREATE TABLE t (real REAL)").await;
    let transaction = driver.begin(TransactionOptions::default()).await.unwrap();
    let insert = |real: f64| {
        let sql = "INSERT INTO t VALUES (?)";
        Statement::from_sql_and_values(DbBackend::Sqlite, sql, [real.into()])
    };
    transaction.execute(insert(0.5)).await.unwrap();
    assert_eq!(factory.encoding.get(), None);
    // JSON has no such number, and the transaction is none the worse for it.
    let error = transaction.execute(insert(f64::INFINITY)).await.unwrap_err();
    let error = mt_core::Error::in_db_err(&error).unwrap();
    assert_eq!(error.kind(), mt_core::ErrorKind::Unsupported);
    transaction.execute(insert(0.25)).await.unwrap();
    transaction.commit().await.unwrap();
    let sum = Statement::from_string(DbBackend::Sqlite, "SELECT SUM(real) FROM t");
    let rows = driver.query(sum).await.unwrap();
    assert!((rows[0].try_get_by_index::<f64>(0).unwrap() - 0.75).abs() < f64::EPSILON);
}
