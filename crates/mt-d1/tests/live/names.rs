//! Names, and what is behind them when.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use libtest_mimic::Failed;
use mt_core::ErrorKind;
use mt_d1::{CreateDatabase, Creation};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cloud::{Cloud, chain, ensure, learned, run};

/// As long as a factory waits for a new database.
const SOON: Duration = Duration::from_secs(15);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// How a name that is taken is told, which is by what an existing database is adopted.
pub(crate) fn a_taken_name(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let uuid = cloud.make("taken").await?;
        let name = format!("{}taken", cloud.prefix);
        let told = cloud.ask("POST", "", json!({ "name": name })).await?;
        learned("a name that is taken", told.refusal());
        ensure(told.code() == Some(7502), || told.refusal())?;
        let again = cloud.factory()?.client().create(&CreateDatabase::new(&name)).await;
        match again.map_err(chain)? {
            Creation::Exists(found) if found.uuid == uuid => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    })
}

/// How soon a new database is seen, by each way there is.
pub(crate) fn a_new_database_is_seen(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let uuid = cloud.make("seen").await?;
        let made = Instant::now();
        let name = format!("{}seen", cloud.prefix);
        let ways = [
            ("GET", format!("/{name}?fields=uuid,name"), Value::Null),
            ("GET", format!("/{uuid}"), Value::Null),
            ("POST", format!("/{uuid}/raw"), json!({ "sql": "SELECT 1" })),
            ("GET", format!("?name={name}"), Value::Null),
        ];
        for (method, path, body) in ways {
            let mut tries = 1;
            loop {
                let told = cloud.ask(method, &path, body.clone()).await?;
                let is_empty = told.result().as_array().is_some_and(Vec::is_empty);
                if told.is_success() && !is_empty {
                    break;
                }
                learned(&format!("not yet, {method} {path}"), told.refusal());
                ensure(made.elapsed() < SOON, || format!("not seen by {method} {path}"))?;
                tries += 1;
                sleep(PAUSE).await;
            }
            let kind = if path.contains("/raw") {
                "raw"
            } else {
                path.split(&*uuid).next().unwrap_or_default()
            };
            learned("seen", format!("{method} {kind}: try {tries}, {:?}", made.elapsed()));
        }
        let found = cloud.factory()?.client().database_by_name(&name).await.map_err(chain)?;
        ensure(found.is_some_and(|found| found.uuid == uuid), || "another is found".to_owned())
    })
}

/// Which names are taken: those that we make have to be, of others it is told.
pub(crate) fn our_names_are_taken(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let filled =
            |length: usize| format!("{}{}", cloud.prefix, "x".repeat(length - cloud.prefix.len()));
        for name in [filled(64), filled(65), filled(128), filled(256)] {
            let told = cloud.ask("POST", "", json!({ "name": name })).await?;
            let answer = if told.is_success() { "taken".to_owned() } else { told.refusal() };
            learned(&format!("a name of {} bytes", name.len()), answer);
        }
        for tail in ["Capitals", "a.b", "a b", "a/b", "é", "-", "_", "a'b", "a--g2"] {
            let name = format!("{}{tail}", cloud.prefix);
            let told = cloud.ask("POST", "", json!({ "name": name })).await?;
            let answer = if told.is_success() { "taken".to_owned() } else { told.refusal() };
            learned(&format!("a name with {tail:?}"), answer);
        }
        // As long as ours get, and of what they are made.
        let longest = filled(63 - 5) + "_0--g";
        let client = cloud.factory()?;
        let made = client.client().create(&CreateDatabase::new(&longest)).await.map_err(chain)?;
        let Creation::Created(made) = made else { return Err("it is there".into()) };
        let found = client.client().database_by_name(&longest).await.map_err(chain)?;
        ensure(found.is_some_and(|found| found.uuid == made.uuid), || "not found".to_owned())
    })
}

/// Whether `?name=` is exact or less, and whether our list is whole either way.
pub(crate) fn a_prefix_finds(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        for name in ["a-1", "a-2", "b-a-1"] {
            cloud.make(name).await?;
        }
        for (what, name) in [
            ("a whole name", format!("{}a-1", cloud.prefix)),
            ("a beginning", format!("{}a-", cloud.prefix)),
            ("a middle", "a-1".to_owned()),
        ] {
            let told = cloud.ask("GET", &format!("?name={name}&per_page=100"), Value::Null).await?;
            let found = told.result().as_array().cloned().unwrap_or_default();
            let names: Vec<_> = found.iter().filter_map(|one| one["name"].as_str()).collect();
            let ours = names.iter().filter(|name| name.starts_with(&cloud.prefix)).count();
            let told = format!("{ours} of ours; {}", told.body["result_info"]);
            learned(&format!("?name= with {what}"), told);
        }
        let factory = cloud.factory()?;
        let list = factory.client().databases(&format!("{}a-", cloud.prefix));
        let mut names: Vec<String> =
            list.map_ok(|database| database.name).try_collect().await.map_err(chain)?;
        names.sort();
        let expected = ["a-1", "a-2"].map(|name| format!("{}{name}", cloud.prefix));
        ensure(names == expected, || format!("{names:?}, expected {expected:?}"))
    })
}

/// Whether a deleted database is gone, its states with it, and another of its name has another id.
pub(crate) fn a_deleted_database_is_gone(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let uuid = cloud.make("deleted").await?;
        cloud.done(&uuid, json!({ "sql": "CREATE TABLE t (a)" })).await?;
        let factory = cloud.factory()?;
        let client = factory.client();
        let mark = client.bookmark(&uuid, None).await.map_err(chain)?;
        client.delete(&uuid).await.map_err(chain)?;
        let deleted = Instant::now();
        loop {
            let told = cloud.raw(&uuid, json!({ "sql": "SELECT 1" })).await?;
            if !told.is_success() {
                learned("statements to a deleted database", told.refusal());
                let is_missing = told.status == 404 || told.code() == Some(7404);
                ensure(is_missing, || told.refusal())?;
                break;
            }
            ensure(deleted.elapsed() < SOON, || "a deleted database goes on answering".to_owned())?;
            sleep(PAUSE).await;
        }
        for path in ["bookmark".to_owned(), format!("restore?bookmark={}", mark.0)] {
            let method = if path == "bookmark" { "GET" } else { "POST" };
            let told =
                cloud.ask(method, &format!("/{uuid}/time_travel/{path}"), Value::Null).await?;
            let answer = if told.is_success() { "it is kept".to_owned() } else { told.refusal() };
            learned(&format!("time travel of a deleted database, {method}"), answer);
        }
        client.delete(&uuid).await.map_err(chain)?;
        let anew = cloud.make("deleted").await?;
        ensure(anew != uuid, || "a new database has the id of a deleted one".to_owned())
    })
}

/// How a full account is told. Makes as many databases as it is allowed to.
pub(crate) fn a_full_account(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let most = cloud.fill.unwrap_or_default();
        for number in 0..most {
            let name = format!("{}{number}", cloud.prefix);
            let told = cloud.ask("POST", "", json!({ "name": name })).await?;
            if told.is_success() {
                continue;
            }
            learned("a full account", told.refusal());
            let ours = cloud.factory()?.client().create(&CreateDatabase::new(name)).await;
            let kind = ours.err().map(|error| error.kind());
            return ensure(kind == Some(ErrorKind::QuotaExceeded), || format!("{kind:?}"));
        }
        Err(format!("the account took {most} more databases").into())
    })
}
