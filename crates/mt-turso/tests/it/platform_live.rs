//! The client of the platform against the platform in front of a real engine, each method once.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::TryStreamExt as _;
use mt_core::{ErrorKind, Secret};
use mt_devservers::Turso;
use mt_remote::{Endpoint, HttpSettings, http_client};
use mt_turso::{
    Authorization, ConfigurationChange, CreateDatabase, DatabaseFilter, Engine, Expiration,
    PlatformClient, PlatformLimits, Seed, TokenScope, Tokens,
};

use tokio::fs::File;

use crate::support::server;

fn client(server: &Turso) -> PlatformClient {
    let seconds = Duration::from_secs(10);
    let http = http_client(HttpSettings { connect_timeout: seconds, timeout: seconds }).unwrap();
    let (endpoint, token) =
        (Endpoint::new(&server.api_url()).unwrap(), Secret::new(server.api_token()));
    let limits = PlatformLimits::default().with_first_delay(Duration::from_millis(50));
    PlatformClient::new(http, endpoint, server.organization(), token, limits).unwrap()
}

async fn token(client: &PlatformClient, name: &str) -> Secret {
    let hour = Expiration::After(Duration::from_secs(3600));
    let scope = TokenScope::Database(name);
    client.mint_token(scope, Authorization::FullAccess, hour).await.unwrap()
}

/// The whole dump. A new database answers 404 for a moment.
async fn dump(client: &PlatformClient, hostname: &str, token: &Secret) -> String {
    let begun = async {
        loop {
            match client.dump(hostname, token).await {
                Err(error) if error.kind() == ErrorKind::TenantNotFound => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                begun => return begun.unwrap(),
            }
        }
    };
    let begun = tokio::time::timeout(Duration::from_secs(30), begun).await.unwrap();
    let pieces: Vec<_> = begun.try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

/// A file of the form the service takes, with one table and one row.
fn file() -> (tempfile::NamedTempFile, u64) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let connection = rusqlite::Connection::open(file.path()).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; CREATE TABLE notes (text TEXT);
             INSERT INTO notes VALUES ('from a file'); PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
    connection.close().unwrap();
    let length = file.as_file().metadata().unwrap().len();
    (file, length)
}

#[tokio::test]
async fn a_database_lives_and_dies() {
    let server = server().await;
    let client = client(&server);
    let create = CreateDatabase::new("a", server.group());
    let made = client.create_database(&create).await.unwrap();
    assert!(made.created);
    let again = client.create_database(&create).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.database.id, made.database.id);

    let found = client.database("a").await.unwrap().unwrap();
    assert_eq!((&found.id, &found.hostname), (&made.database.id, &made.database.hostname));
    assert_eq!(found.engine(), Engine::LibSql);
    assert!(client.database("b").await.unwrap().is_none());

    let change = ConfigurationChange::block(true).with_delete_protection(true);
    let settings = client.configure("a", &change).await.unwrap();
    assert!(settings.block_reads && settings.block_writes && settings.delete_protection);
    let refused = client.delete_database("a").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{}", refused.to_chain());
    let change =
        ConfigurationChange::default().with_delete_protection(false).with_size_limit("256mb");
    client.configure("a", &change).await.unwrap();
    let settings = client.configuration("a").await.unwrap();
    assert!(settings.block_reads && !settings.delete_protection);
    assert_eq!(settings.size_limit.as_deref(), Some("256mb"));

    client.usage("a", None, Some(Utc::now())).await.unwrap();
    assert!(!client.instances("a").await.unwrap().is_empty());
    assert!(client.delete_database("a").await.unwrap());
    assert!(!client.delete_database("a").await.unwrap());
    assert!(client.database("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_list_has_all_of_many_pages() {
    let server = server().await;
    let client = client(&server);
    let mut expected: Vec<String> = (0..120).map(|n| format!("db-{n:03}")).collect();
    for name in &expected {
        client.create_database(&CreateDatabase::new(name, server.group())).await.unwrap();
    }
    let filter = DatabaseFilter::default().with_group(server.group()).with_prefix("db-");
    let mut names: Vec<String> =
        client.databases(filter).map_ok(|database| database.name).try_collect().await.unwrap();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn groups_are_made_slept_and_woken() {
    let server = server().await;
    let client = client(&server);
    let made = client.create_group("second", "aws-us-east-1").await.unwrap();
    assert_eq!(made.name, "second");
    assert_eq!(client.create_group("second", "aws-us-east-1").await.unwrap().uuid, made.uuid);
    assert_eq!(client.groups().await.unwrap().len(), 2);
    assert!(client.group("third").await.unwrap().is_none());
    client.unarchive_group("second").await.unwrap();

    server.set_group_state("second", mt_devservers::turso::GroupState::Sleeping).unwrap();
    let create = CreateDatabase::new("a", "second");
    assert!(client.create_database(&create).await.unwrap().created, "the group was woken");

    let unknown = client.create_database(&CreateDatabase::new("b", "third")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Config, "{}", unknown.to_chain());
    client.delete_database("a").await.unwrap();
    assert!(client.delete_group("second").await.unwrap());
    assert!(!client.delete_group("second").await.unwrap());
}

#[tokio::test]
async fn a_file_goes_in_and_comes_out_and_is_branched() {
    let server = server().await;
    let client = client(&server);
    let create = CreateDatabase::new("a", server.group()).with_seed(Seed::Upload);
    let made = client.create_database(&create).await.unwrap().database;
    let secret = token(&client, "a").await;
    let (named, length) = file();
    let opened = File::open(named.path()).await.unwrap();
    client.upload(&made.hostname, &secret, opened, length).await.unwrap();
    assert!(dump(&client, &made.hostname, &secret).await.contains("from a file"));

    // The service is told milliseconds, and takes the newest point until then.
    let then = server.keep_restore_point("a").await.unwrap() + TimeDelta::milliseconds(1);
    for (name, seed) in [("branch", Seed::database("a")), ("past", Seed::point_in_time("a", then))]
    {
        let create = CreateDatabase::new(name, server.group()).with_seed(seed);
        let branch = client.create_database(&create).await.unwrap().database;
        assert_ne!(branch.hostname, made.hostname);
        let own = token(&client, name).await;
        assert!(dump(&client, &branch.hostname, &own).await.contains("from a file"));
        let parent = client.database(name).await.unwrap().unwrap().parent.unwrap();
        assert_eq!(parent.name.as_deref(), Some("a"));
    }
}

#[tokio::test]
async fn tokens_open_their_database_until_its_keys_are_rotated() {
    let server = server().await;
    let client = client(&server);
    let (mut hosts, mut ids) = (Vec::new(), Vec::new());
    for name in ["a", "b"] {
        let create = CreateDatabase::new(name, server.group());
        let database = client.create_database(&create).await.unwrap().database;
        hosts.push(database.hostname);
        ids.push(database.id);
    }
    let full = Authorization::FullAccess;
    let tokens = Tokens::new(&client, None, Duration::from_secs(3600)).unwrap();
    let of_a = tokens.get("a", &ids[0], full).await.unwrap();
    let of_b = tokens.get("b", &ids[1], full).await.unwrap();
    dump(&client, &hosts[0], &of_a).await;
    dump(&client, &hosts[1], &of_b).await;
    assert!(client.dump(&hosts[1], &of_a).await.is_err(), "another's token opens nothing");

    client.rotate(TokenScope::Database("a")).await.unwrap();
    let refused = client.dump(&hosts[0], &of_a).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{}", refused.to_chain());
    assert!(tokens.refused("a", &ids[0], full, &of_a));
    let renewed = tokens.get("a", &ids[0], full).await.unwrap();
    dump(&client, &hosts[0], &renewed).await;

    let tokens = Tokens::new(&client, Some(server.group().to_owned()), Duration::from_secs(3600));
    let of_group = tokens.unwrap().get("a", &ids[0], full).await.unwrap();
    dump(&client, &hosts[0], &of_group).await;
    dump(&client, &hosts[1], &of_group).await;
    client.rotate(TokenScope::Group(server.group())).await.unwrap();
    let refused = client.dump(&hosts[1], &of_group).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{}", refused.to_chain());
}

#[tokio::test]
async fn a_full_plan_and_wrong_credentials_are_told_apart() {
    let server = server().await;
    server.set_quota(Some(0));
    let create = CreateDatabase::new("a", server.group());
    let full = client(&server).create_database(&create).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::QuotaExceeded, "{}", full.to_chain());

    let seconds = Duration::from_secs(10);
    let http = http_client(HttpSettings { connect_timeout: seconds, timeout: seconds }).unwrap();
    let stranger = PlatformClient::new(
        http,
        Endpoint::new(&server.api_url()).unwrap(),
        server.organization(),
        Secret::new("somebody-else"),
        PlatformLimits::default(),
    );
    let refused = stranger.unwrap().groups().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{}", refused.to_chain());
}
