//! Many tenants in one account: made and used at once, and what each thing costs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mt_control::MigrateAll;
use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind};
use mt_devservers::{D1, d1::Kind};
use mt_migration::{Migrator, Runner};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement, TransactionTrait as _};

use crate::{
    d1_support::{Account, ids, provision},
    support::{NOTES, kind_in, runner, tenant},
};

fn text(sql: &str, value: &str) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [value.into()])
}

const INSERT: &str = "INSERT INTO notes (text) VALUES (?)";

/// One of several kinds of work, and a look at everything that is there: all of it the tenant's.
async fn work(data: &DataAdapters, kind: u64, number: u64) -> Result<u64, DbErr> {
    let note = format!("{}:{number}", data.tenant());
    let insert = || text(INSERT, &note);
    let written = match kind {
        0 => {
            data.execute_raw(insert()).await?;
            1
        }
        1 => {
            data.batch(vec![insert(), insert()]).await?;
            2
        }
        2 => {
            let kept = format!("{INSERT} RETURNING id, text");
            let row = data.query_one_raw(text(&kept, &note)).await?.unwrap();
            assert_eq!(row.try_get::<String>("", "text")?, note);
            1
        }
        _ => 0,
    };
    let all = Statement::from_string(DbBackend::Sqlite, "SELECT text FROM notes");
    let rows = if kind == 3 {
        data.read().query_all_raw(all).await?
    } else {
        data.query_all_raw(all).await?
    };
    let own = format!("{}:", data.tenant());
    for row in rows {
        let text: String = row.try_get("", "text")?;
        assert!(text.starts_with(&own), "{} sees {text}", data.tenant());
    }
    Ok(written)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_tenants_see_their_own_rows_and_no_error() {
    const TENANTS: usize = 200;
    const TASKS: u64 = 32;
    const CALLS: u64 = 25;
    // Nobody travels in time.
    let account = Account::start_with(D1::builder().history(false)).await;
    let ids = Arc::new(ids("t", TENANTS));
    let tenants = account.open(runner([NOTES])).await;
    provision(&tenants, &ids).await;

    let written = Arc::new(AtomicU64::new(0));
    let tasks = (0..TASKS).map(|task| {
        let (tenants, ids, written) = (tenants.clone(), Arc::clone(&ids), Arc::clone(&written));
        tokio::spawn(async move {
            for call in 0..CALLS {
                // Some tenants are asked for by several tasks at once, all are asked for.
                let number = task * CALLS + call;
                let chosen = usize::try_from(number * 7919 % 200).unwrap();
                let data = tenants.get_adapters(&ids[chosen]).await.unwrap();
                let done = work(&data, number % 4, number).await.unwrap();
                written.fetch_add(done, Ordering::Relaxed);
            }
        })
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }

    let mut stored = 0;
    for id in ids.iter() {
        let (own, all) =
            (format!("{id}:%"), "SELECT COUNT(*) AS n, SUM(text LIKE ?) AS own FROM notes");
        let data = tenants.get_adapters(id).await.unwrap();
        let row = data.query_one_raw(text(all, &own)).await.unwrap().unwrap();
        let n: i64 = row.try_get("", "n").unwrap();
        let own: Option<i64> = row.try_get("", "own").unwrap();
        assert_eq!(own.unwrap_or_default(), n, "{id}");
        stored += n.unsigned_abs();
    }
    assert_eq!(stored, written.load(Ordering::Relaxed));
}

#[tokio::test]
async fn everything_costs_what_the_page_says() {
    let account = Account::start().await;
    let schema = Runner::of::<Migrator>().unwrap();
    let (builder, factory) = account.parts(schema, |factory| factory).await;
    let factory = Arc::new(factory);
    let isolation = mt_control::DatabaseIsolation::new(
        Arc::clone(&factory) as Arc<dyn mt_core::DatabaseFactory>
    );
    let tenants = builder.with_database_isolation(isolation).build().await.unwrap();
    // The columns of what is asked for are learned once in a process, for all tenants.
    let first = tenant("first");
    tenants.provision(&first).await.unwrap();
    let data = tenants.get_adapters(&first).await.unwrap();
    let select = || Statement::from_string(DbBackend::Sqlite, "SELECT id, email FROM users");
    let insert = |returning: &str| {
        let sql = format!(
            "INSERT INTO settings (key, value, updated_at) VALUES ('a', 'b', 0){returning}"
        );
        Statement::from_string(DbBackend::Sqlite, sql)
    };
    data.query_all_raw(select()).await.unwrap();
    data.read().query_all_raw(select()).await.unwrap();

    let acme = tenant("acme");
    let (requests, made) = account.requests(Box::pin(tenants.provision(&acme))).await;
    made.unwrap();
    // Making it and filling it; and the control plane's: a look whether the schema is current, and
    // opening it.
    assert_eq!(requests, 2 + 2, "making a tenant");
    assert_eq!(tenants.forecast_provision(1).unwrap().forecast.requests, 4);
    let (requests, data) = account.requests(tenants.get_adapters(&acme)).await;
    let data = data.unwrap();
    assert_eq!(requests, 1, "opening");
    let (requests, again) = account.requests(tenants.get_adapters(&acme)).await;
    drop(again.unwrap());
    assert_eq!(requests, 0, "opening what is open");
    let (requests, rows) = account.requests(data.query_all_raw(select())).await;
    assert_eq!((requests, rows.unwrap().len()), (1, 0), "reading");
    let (requests, rows) = account.requests(data.read().query_all_raw(select())).await;
    assert_eq!((requests, rows.unwrap().len()), (1, 0), "reading by a handle that only reads");
    let (requests, done) = account.requests(data.execute_raw(insert(""))).await;
    assert_eq!((requests, done.unwrap().rows_affected()), (1, 1), "writing");
    let delete = || Statement::from_string(DbBackend::Sqlite, "DELETE FROM settings");
    let all = vec![delete(), insert(""), delete(), insert(""), delete()];
    let (requests, done) = account.requests(data.batch(all)).await;
    assert_eq!((requests, done.unwrap().len()), (1, 5), "a batch");
    let (requests, refused) = account.requests(data.begin()).await;
    assert_eq!(kind_in(&refused.map(drop).unwrap_err()), Some(ErrorKind::Unsupported));
    assert_eq!(requests, 0, "a transaction");
    let (requests, refused) = account.requests(data.read().execute_raw(delete())).await;
    refused.unwrap_err();
    assert_eq!(requests, 0, "writing by a handle that only reads");
    let (requests, info) = account.requests(factory.describe(&acme)).await;
    assert_eq!(info.unwrap().stamp.tenant, acme);
    assert_eq!(requests, 1, "describing");
    let verify = MigrateAll::default().with_verify(true);
    let (requests, report) = account.requests(tenants.migrate_all(verify)).await;
    assert_eq!((requests, report.unwrap().up_to_date().count()), (2, 2), "verifying two tenants");

    let deletes = account.server.requests().of_kind(Kind::Delete);
    let (requests, removed) = account.requests(tenants.deprovision(&acme)).await;
    removed.unwrap();
    // A look whether there is something for the hook; then finding it, finding that there is no next
    // generation, a look whose it is, and deleting it.
    assert_eq!(requests, 1 + 4, "removing a tenant");
    assert_eq!(account.server.requests().of_kind(Kind::Delete), deletes + 1);
}
