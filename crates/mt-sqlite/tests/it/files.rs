//! What can be wrong with a file.

use std::fs;

use mt_core::{DatabaseFactory as _, ErrorKind, FactoryContext};
use mt_sqlite::SqliteConfig;
use sea_orm::{
    ConnectionTrait as _, DbBackend, Statement, TransactionSession as _, TransactionTrait as _,
};

use crate::{builder, context, factory, tenant};

#[tokio::test]
async fn a_file_copied_over_another_tenants_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let context = context();
    let factory = factory(home.path(), &context);
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    factory.provision(&acme).await.unwrap();
    factory.provision(&globex).await.unwrap();
    let from = factory.database_path(&acme).await.unwrap();
    let to = factory.database_path(&globex).await.unwrap();
    fs::copy(from, &to).unwrap();

    let foreign = ErrorKind::ForeignDatabase;
    assert_eq!(factory.get_adapters(&globex).await.unwrap_err().kind(), foreign);
    assert_eq!(factory.describe(&globex).await.unwrap_err().kind(), foreign);
    assert_eq!(factory.deprovision(&globex).await.unwrap_err().kind(), foreign);
    assert_eq!(factory.provision(&globex).await.unwrap_err().kind(), ErrorKind::NameTaken);
    assert!(to.exists(), "what is not this tenant's is not removed");
    factory.get_adapters(&acme).await.unwrap();
}

#[tokio::test]
async fn a_file_of_another_deployment_is_refused() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (context(), context());
    let (ours, theirs) = (factory(here.path(), &ours), factory(there.path(), &theirs));
    let acme = tenant("acme");
    ours.provision(&acme).await.unwrap();
    theirs.provision(&acme).await.unwrap();
    let from = theirs.database_path(&acme).await.unwrap();
    fs::copy(from, ours.database_path(&acme).await.unwrap()).unwrap();

    let error = ours.get_adapters(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    assert_eq!((error.tenant(), error.provider()), (Some(&acme), Some("sqlite")));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_corrupt_and_stays() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    let path = factory.database_path(&acme).await.unwrap();
    fs::write(&path, "This is a letter, and no database. ".repeat(200)).unwrap();

    assert_eq!(factory.get_adapters(&acme).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(factory.describe(&acme).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(factory.provision(&acme).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(factory.deprovision(&acme).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(path.exists());
}

#[tokio::test]
async fn an_empty_file_becomes_the_tenants_database() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    fs::write(factory.database_path(&acme).await.unwrap(), []).unwrap();
    factory.provision(&acme).await.unwrap();
    factory.get_adapters(&acme).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let home = tempfile::tempdir().unwrap();
    // Also for the superuser, whom permissions do not stop.
    let file = home.path().join("file");
    fs::write(&file, []).unwrap();
    let factory = factory(&file.join("tenants"), &context());
    let error = factory.provision(&tenant("acme")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_chain().contains("file/tenants"), "{}", error.to_chain());
}

/// `/dev/full` answers every write as a full disk does, and needs no rights. It is a backup's
/// destination here: a tenant's own database cannot be put there.
#[tokio::test]
async fn a_destination_that_is_full_is_a_quota_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("CREATE TABLE big (x blob)").await.unwrap();
    let mut full = tokio::fs::OpenOptions::new().write(true).open("/dev/full").await.unwrap();
    let error = factory.backup(&acme, &mut full).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{}", error.to_chain());
    assert_eq!(leftovers(home.path()), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_left_beside_a_removed_database() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("CREATE TABLE t (x)").await.unwrap();
    factory.deprovision(&acme).await.unwrap();
    let names: Vec<_> =
        fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn what_a_dead_database_left_behind_is_not_played_into_a_new_one() {
    let home = tempfile::tempdir().unwrap();
    let context = context();
    let acme = tenant("acme");
    let path = factory(home.path(), &context).database_path(&acme).await.unwrap();
    let log = path.with_extension("sqlite-wal");
    {
        let factory = factory(home.path(), &context);
        factory.provision(&acme).await.unwrap();
        let data = factory.get_adapters(&acme).await.unwrap();
        data.execute_unprepared("CREATE TABLE old (x)").await.unwrap();
        fs::copy(&log, home.path().join("kept")).unwrap();
        factory.deprovision(&acme).await.unwrap();
    }
    fs::rename(home.path().join("kept"), &log).unwrap();
    let factory = factory(home.path(), &context);
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("CREATE TABLE old (x)").await.unwrap();
}

#[tokio::test]
async fn the_image_and_a_provisioned_file_are_written_ahead_and_durable() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let bytes = fs::read(factory.database_path(&acme).await.unwrap()).unwrap();
    assert_eq!(&bytes[18..20], [2, 2], "the file says that it has a write-ahead log");
    let data = factory.get_adapters(&acme).await.unwrap();
    for (pragma, expected) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")]
    {
        let statement = format!("SELECT CAST({pragma} AS text) AS v FROM pragma_{pragma}");
        let statement = Statement::from_string(DbBackend::Sqlite, statement);
        let row = data.query_one_raw(statement).await.unwrap().unwrap();
        assert_eq!(row.try_get::<String>("", "v").unwrap(), expected, "{pragma}");
    }
}

#[tokio::test]
async fn an_embedded_factory_refuses_to_restore_before_it_reads() {
    let home = tempfile::tempdir().unwrap();
    let context = FactoryContext::new(mt_core::DeploymentId::random());
    let factory = builder(home.path(), &context).build().unwrap();
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let mut copy = Vec::new();
    let manifest = factory.backup(&acme, &mut copy).await.unwrap();
    let mut source = copy.as_slice();
    let options = mt_core::RestoreOptions::default();
    let restored = factory.restore(&acme, &manifest, &mut source, options).await;
    assert_eq!(restored.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(source.len(), copy.len(), "nothing was read");
}

/// A statement that makes SQLite roll back by itself.
#[tokio::test]
async fn nothing_goes_on_alone_after_the_engine_rolled_back() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("CREATE TABLE t (x UNIQUE)").await.unwrap();
    data.execute_unprepared("INSERT INTO t VALUES (1)").await.unwrap();

    let transaction = data.begin().await.unwrap();
    transaction.execute_unprepared("INSERT INTO t VALUES (2)").await.unwrap();
    transaction.execute_unprepared("INSERT OR ROLLBACK INTO t VALUES (1)").await.unwrap_err();
    transaction.execute_unprepared("INSERT INTO t VALUES (3)").await.unwrap_err();
    transaction.commit().await.unwrap_err();

    let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) AS n FROM t");
    let row = data.query_one_raw(count).await.unwrap().unwrap();
    assert_eq!(row.try_get::<i64>("", "n").unwrap(), 1);
}

/// SQLite commits a statement that returns rows when it is stepped to its end or reset, and says
/// only in the first case how that went.
/// Dropped or nested, with nobody to say that the engine has ended it: whoever has the connection
/// next begins a transaction of its own.
#[tokio::test]
async fn a_connection_with_a_transaction_that_is_over_is_not_used_again() {
    const ENDS: &str = "INSERT OR ROLLBACK INTO t VALUES (1)";
    let directory = tempfile::tempdir().unwrap();
    let mut config = SqliteConfig::default();
    (config.directory, config.max_connections) = (directory.path().to_owned(), 1);
    let factory = builder(directory.path(), &context()).with_config(config).build().unwrap();
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    for round in 0..6 {
        let outer = data.begin().await.unwrap();
        if round % 2 == 0 {
            outer.execute_unprepared(ENDS).await.unwrap_err();
            drop(outer);
        } else {
            let inner = outer.begin().await.unwrap();
            inner.execute_unprepared(ENDS).await.unwrap_err();
            drop(inner.rollback().await);
            drop(outer.rollback().await);
        }
        let next = data.begin().await.unwrap();
        next.execute_unprepared("INSERT INTO t VALUES (100)").await.unwrap();
        next.rollback().await.unwrap();
        data.execute_unprepared(&format!("INSERT INTO t VALUES ({})", round + 2)).await.unwrap();
    }
    data.close(std::time::Duration::from_secs(5)).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM t");
    let row = data.query_one_raw(count).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 7);
}

#[tokio::test]
async fn an_insert_that_returns_its_row_is_not_acknowledged_before_its_commit() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    for table in [
        "CREATE TABLE parent (id integer PRIMARY KEY)",
        "CREATE TABLE child (p integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
    ] {
        data.execute_unprepared(table).await.unwrap();
    }
    // What is deferred is checked by the commit, as a full disk would be found by it.
    let insert =
        || Statement::from_string(DbBackend::Sqlite, "INSERT INTO child VALUES (1) RETURNING p");
    assert!(data.query_one_raw(insert()).await.is_err());
    assert!(data.query_all_raw(insert()).await.is_err());
}

#[tokio::test]
async fn the_log_is_folded_into_the_file_while_rows_are_inserted() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("CREATE TABLE t (id integer PRIMARY KEY, x text)").await.unwrap();
    for _ in 0..1_500 {
        let insert = Statement::from_sql_and_values(
            DbBackend::Sqlite,
            "INSERT INTO t (x) VALUES (?) RETURNING id",
            ["x".repeat(4_000).into()],
        );
        data.query_one_raw(insert).await.unwrap();
    }
    let log = factory.database_path(&acme).await.unwrap().with_extension("sqlite-wal");
    // SQLite folds it each 1,000 pages of 4 KiB; unfolded it would be more than 12 MB by now.
    let length = fs::metadata(log).unwrap().len();
    assert!(length < 6_000_000, "{length}");
}

fn leftovers(directory: &std::path::Path) -> Vec<String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect()
}
