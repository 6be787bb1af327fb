//! D1 beside the other engines: the same program, the same entities, the same tenants.

use std::{path::Path, sync::Arc};

use mt_control::{Catalog, DatabaseIsolation, MultiTenancy, RestoreAs};
use mt_core::{DataAdapters, DatabaseFactory, ErrorKind, FactoryContext, TenantId, TenantState};
use mt_sqlite::SqliteFactory;
use mt_tests::Installation;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, Set, SqlErr,
};
use serde_json::Value;

use crate::{
    d1_support::Account,
    native::{
        columns::{Column, Entity, Number, Word, assert_samples, read, samples},
        raw,
    },
    support::{NOTES, file_of, outside, runner, tenant},
    turso_support::{Cloud, listed, note, notes},
};

/// What an application does with its entities, whatever engine they are on.
async fn entities_work(data: &DataAdapters) {
    raw::make_table(data).await;
    let written = samples();
    for sample in &written {
        let returned = sample.clone().into_active_model().insert(data).await.unwrap();
        assert_eq!(&returned, sample, "an insert returned another");
    }
    assert_samples(&read(data).await, "read");
    assert_samples(&read(&data.read()).await, "read by a handle that only reads");

    // Each by itself, whatever is next to it.
    for sample in &written {
        let found = Entity::find_by_id(sample.id).one(data).await.unwrap();
        assert_eq!(found.as_ref(), Some(sample));
    }
    let full = &written[1];
    let found = Entity::find()
        .filter(Column::I64.eq(i64::MIN))
        .filter(Column::U32.eq(u32::MAX))
        .filter(Column::F64.eq(-2.5))
        .filter(Column::Text.eq(full.text.as_str()))
        .filter(Column::Bytes.eq(full.bytes.clone()))
        .filter(Column::Uuid.eq(full.uuid))
        .filter(Column::Word.eq(Word::Other))
        .filter(Column::Number.eq(Number::High))
        .filter(Column::Date.eq(full.date))
        .filter(Column::Utc.eq(full.utc))
        .filter(Column::Flag.eq(true));
    assert_eq!(found.all(data).await.unwrap(), std::slice::from_ref(full));
    let large = Column::I64.is_in([9_007_199_254_740_993, i64::MAX]);
    let large = Entity::find().filter(large).order_by_desc(Column::I64).all(data).await.unwrap();
    let large: Vec<_> = large.iter().map(|row| row.i64).collect();
    assert_eq!(large, [i64::MAX, 9_007_199_254_740_993], "neighbours are not taken for them");

    // What is changed comes back, and is there.
    let mut row = written[0].clone().into_active_model();
    row.i64 = Set(-9_007_199_254_740_993);
    row.f64 = Set(3.0);
    row.maybe_text = Set(Some("a\0b".to_owned()));
    let changed = row.update(data).await.unwrap();
    assert_eq!((changed.i64, changed.f64), (-9_007_199_254_740_993, 3.0));
    assert_eq!(Entity::find_by_id(changed.id).one(data).await.unwrap(), Some(changed.clone()));
    let twice = changed.clone().into_active_model().reset_all().insert(data).await.unwrap_err();
    assert!(matches!(twice.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))), "{twice}");

    let many = (100..110).map(|id| crate::native::columns::Model { id, ..full.clone() });
    let many = many.map(|model| model.into_active_model());
    Entity::insert_many(many).exec(data).await.unwrap();
    assert_eq!(Entity::find().count(data).await.unwrap(), written.len() as u64 + 10);
    let gone = Entity::delete_many().filter(Column::Id.gte(100)).exec(data).await.unwrap();
    assert_eq!(gone.rows_affected, 10);
    let pages = Entity::find().order_by_asc(Column::Id).paginate(data, 7);
    let page = pages.fetch_page(1).await.unwrap();
    assert_eq!(page, written[7..14]);
}

/// A tenant `acme` of `tenants`, with everything that an entity can have in it.
async fn with_entities(tenants: &MultiTenancy) -> TenantId {
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    entities_work(&tenants.get_adapters(&acme).await.unwrap()).await;
    acme
}

/// The storage class of every value of the entity's table, and the values: text and the like as the
/// bytes that they are, and real numbers as they are, since JSON has them exactly.
fn exact_queries() -> [String; 2] {
    let value = |name: &str| {
        format!("CASE typeof(\"{name}\") WHEN 'real' THEN \"{name}\" ELSE hex(\"{name}\") END")
    };
    let select = |columns| format!("SELECT {columns} FROM every_column ORDER BY id");
    [raw::select_classes(), select(raw::columns(value))]
}

fn exactly_in_file(file: &Path) -> [Vec<Vec<String>>; 2] {
    use rusqlite::types::Value;
    let connection = outside(file);
    exact_queries().map(|query| {
        let mut statement = connection.prepare(&query).unwrap();
        let columns = statement.column_count();
        let text = |value| match value {
            Value::Text(text) => text,
            Value::Real(real) => bits(real),
            other => panic!("{other:?}"),
        };
        let rows =
            statement.query_map([], |row| (0..columns).map(|at| Ok(text(row.get(at)?))).collect());
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    })
}

async fn exactly_in_d1(account: &Account, tenant: &TenantId) -> [Vec<Vec<String>>; 2] {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => bits(number.as_f64().unwrap()),
        other => panic!("{other:?}"),
    };
    let texts = |rows: Vec<Vec<Value>>| rows.iter().map(|r| r.iter().map(text).collect()).collect();
    let [classes, values] = exact_queries();
    [texts(account.rows(tenant, &classes).await), texts(account.rows(tenant, &values).await)]
}

fn bits(real: f64) -> String {
    format!("{:016x}", real.to_bits())
}

fn assert_same(found: &[Vec<Vec<String>>; 2], expected: &[Vec<Vec<String>>; 2]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len());
        assert_eq!(found.len(), samples().len());
        for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found.len(), expected.len());
            for (column, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_eq!(found, expected, "row {row}, column {column}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_entities_do_the_same_and_lie_there_the_same() {
    let (account, files) = (Account::start().await, Installation::new().unwrap());
    let local = files.open_with(runner([NOTES]), |isolation| isolation).await.unwrap();
    let remote = account.open(runner([NOTES])).await;
    let acme = with_entities(&local).await;
    with_entities(&remote).await;

    let expected = exactly_in_file(&file_of(&files, acme.as_str(), 1));
    assert_same(&exactly_in_d1(&account, &acme).await, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_from_a_file_to_d1_and_back_and_nothing_changes() {
    let (account, files) = (Account::start().await, Installation::new().unwrap());
    let local = files.open_with(runner([NOTES]), |isolation| isolation).await.unwrap();
    let remote = account.open(runner([NOTES])).await;
    let acme = with_entities(&local).await;
    note(&local.get_adapters(&acme).await.unwrap(), "in a file").await;
    let expected = read(&local.get_adapters(&acme).await.unwrap()).await;
    let before = exactly_in_file(&file_of(&files, acme.as_str(), 1));
    local.suspend(&acme).await.unwrap();
    let there = account.path().join("there.tar");
    local.backup(&acme, &there).await.unwrap();

    let moved = remote.restore(&acme, &there, RestoreAs::New(acme.clone())).await.unwrap();
    assert_eq!((moved.state, moved.provider.as_str()), (TenantState::Active, "d1"));
    assert_eq!(read(&remote.get_adapters(&acme).await.unwrap()).await, expected);
    assert_same(&exactly_in_d1(&account, &acme).await, &before);
    note(&remote.get_adapters(&acme).await.unwrap(), "in the account").await;
    let back = account.path().join("back.tar");
    remote.backup(&acme, &back).await.unwrap();

    // Not over the one that is there: whose rows it would lose, nobody said.
    let refused = local.restore(&acme, &back, RestoreAs::New(acme.clone())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TenantExists);
    local.deprovision(&acme).await.unwrap();
    let returned = local.restore(&acme, &back, RestoreAs::New(acme.clone())).await.unwrap();
    let generation = returned.placement.generation.get();
    assert_same(&exactly_in_file(&file_of(&files, acme.as_str(), generation)), &before);
    assert_eq!(notes(&local, &acme).await, ["in a file", "in the account"]);
    assert_eq!(notes(&remote, &acme).await, ["in a file", "in the account"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_from_one_service_to_the_other() {
    let (account, cloud) = (Account::start().await, Cloud::start().await);
    let d1 = account.open(runner([NOTES])).await;
    let turso = cloud.open(runner([NOTES])).await;
    let acme = with_entities(&d1).await;
    note(&d1.get_adapters(&acme).await.unwrap(), "first here").await;
    let expected = read(&d1.get_adapters(&acme).await.unwrap()).await;
    for (from, to, provider) in [(&d1, &turso, "turso"), (&turso, &d1, "d1")] {
        let copy = account.path().join(format!("to-{provider}.tar"));
        from.backup(&acme, &copy).await.unwrap();
        from.deprovision(&acme).await.unwrap();
        let moved = to.restore(&acme, &copy, RestoreAs::New(acme.clone())).await.unwrap();
        assert_eq!((moved.state, moved.provider.as_str()), (TenantState::Active, provider));
        assert_eq!(read(&to.get_adapters(&acme).await.unwrap()).await, expected, "{provider}");
        assert_eq!(notes(to, &acme).await, ["first here"], "{provider}");
    }
    assert_eq!(listed(&account.stranger()).await.len(), 1);
    assert_eq!(listed(&cloud.stranger()).await, [""; 0]);
}

/// A program on the catalog of `account`, with the provider that `factory` makes.
async fn program<F: Into<Arc<dyn DatabaseFactory>>>(
    account: &Account,
    factory: impl FnOnce(FactoryContext) -> mt_core::Result<F> + Send,
) -> MultiTenancy {
    let schema = runner([NOTES]);
    let catalog = Catalog::open(account.path().join("control.db")).await.unwrap();
    let factory = factory(catalog.context(&schema)).unwrap().into();
    let builder = MultiTenancy::builder().with_catalog(catalog).with_schema(schema);
    builder.with_database_isolation(DatabaseIsolation::new(factory)).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_programs_with_an_engine_each_share_one_catalog() {
    let (account, cloud) = (Account::start().await, Cloud::start().await);
    let files = SqliteFactory::builder().with_directory(account.path().join("tenants"));
    let sqlite = program(&account, |context| files.with_context(context).build());
    let turso = program(&account, |context| cloud.factory().with_context(context).build());
    let d1 = program(&account, |context| account.factory().with_context(context).build());
    let all = [("sqlite", sqlite.await), ("turso", turso.await), ("d1", d1.await)];
    let id = |provider: &str| tenant(&format!("on-{provider}"));
    for (provider, tenants) in &all {
        assert_eq!(tenants.provision(&id(provider)).await.unwrap().provider, *provider);
    }
    for (provider, tenants) in &all {
        for (other, _) in &all {
            if provider == other {
                note(&tenants.get_adapters(&id(other)).await.unwrap(), other).await;
                continue;
            }
            let refused = tenants.get_adapters(&id(other)).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Config, "{}", refused.to_chain());
            assert!(refused.to_string().contains(&format!("kept by `{other}`")), "{refused}");
            let refused = tenants.deprovision(&id(other)).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Config, "{}", refused.to_chain());
        }
        assert_eq!(tenants.list().await.unwrap().len(), 3);
    }
    for (provider, tenants) in &all {
        assert_eq!(notes(tenants, &id(provider)).await, [*provider]);
    }
    assert_eq!(listed(&account.stranger()).await, ["tenant_on-d1"]);
    assert_eq!(listed(&cloud.stranger()).await, ["tenant-on-turso"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_one_name_on_three_engines_are_three_tenants() {
    let (account, cloud) = (Account::start().await, Cloud::start().await);
    let files = Installation::new().unwrap();
    let schema = || runner([NOTES]);
    let local = files.open_with(schema(), |isolation| isolation).await.unwrap();
    let (turso, d1) = (cloud.open(schema()).await, account.open(schema()).await);
    let all = [("sqlite", &local), ("turso", &turso), ("d1", &d1)];
    let ids = ["acme", "globex"].map(tenant);
    for (provider, tenants) in all {
        for id in &ids {
            assert_eq!(tenants.provision(id).await.unwrap().provider, provider);
        }
    }
    let pairs = all.iter().flat_map(|each| ids.iter().map(move |id| (each, id)));
    let writes = pairs.map(async |((provider, tenants), id)| {
        let data = tenants.get_adapters(id).await.unwrap();
        for number in 0..5 {
            note(&data, &format!("{number} of {id} on {provider}")).await;
        }
    });
    futures_util::future::join_all(writes).await;
    for (provider, tenants) in all {
        for id in &ids {
            let expected: Vec<_> = (0..5).map(|n| format!("{n} of {id} on {provider}")).collect();
            assert_eq!(notes(tenants, id).await, expected);
        }
    }

    // What happens to one happens to no other of its name.
    let acme = &ids[0];
    d1.deprovision(acme).await.unwrap();
    assert_eq!(d1.get_adapters(acme).await.unwrap_err().kind(), ErrorKind::TenantNotFound);
    for tenants in [&local, &turso] {
        assert_eq!(notes(tenants, acme).await.len(), 5);
    }
    assert_eq!(notes(&d1, &ids[1]).await.len(), 5);
}
