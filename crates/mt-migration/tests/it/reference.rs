use mt_migration::{Migrator, Runner};

use crate::factory::{OneFile, acme};

const USER: &str = "INSERT INTO users (id, email, name, created_at, updated_at)
    VALUES ('u', 'Ann@Example.com', 'Ann', '2026-09-01T00:00:00+00:00', '2026-09-01T00:00:00+00:00')";

#[tokio::test]
async fn every_migration_can_be_rolled_back_and_applied_again() {
    let factory = OneFile::new();
    let runner = Runner::of::<Migrator>().unwrap();
    assert!(runner.names().len() >= 5);
    runner.up(&factory, &acme()).await.unwrap();
    let made = factory.tables().await;
    for name in runner.names().iter().rev() {
        assert_eq!(runner.down(&factory, &acme(), 1).await.unwrap().ran, [name.as_str()]);
    }
    // The ledger, and the table SQLite counts ids in.
    assert_eq!(factory.tables().await, 2);
    runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(factory.tables().await, made);
}

#[tokio::test]
async fn addresses_that_were_there_are_normalized() {
    let factory = OneFile::new();
    let runner = Runner::of::<Migrator>().unwrap();
    runner.up(&factory, &acme()).await.unwrap();
    runner.down(&factory, &acme(), 1).await.unwrap();
    factory.execute(USER).await;
    runner.up(&factory, &acme()).await.unwrap();
    let normalized = "SELECT COUNT(*) AS n FROM users WHERE email_normalized = 'ann@example.com'";
    assert_eq!(factory.count(normalized).await, 1);
}

#[tokio::test]
async fn removing_a_user_removes_what_is_theirs() {
    let factory = OneFile::new();
    Runner::of::<Migrator>().unwrap().up(&factory, &acme()).await.unwrap();
    factory.execute(USER).await;
    factory
        .execute(
            "INSERT INTO logs (user_id, kind, message, created_at) VALUES ('u', 'k', 'm', 't');
             INSERT INTO sessions VALUES ('s', 'u', 'h', 't', 't');
             INSERT INTO credentials VALUES ('u', 'password', 'h', 't');
             DELETE FROM users",
        )
        .await;
    for table in ["logs", "sessions", "credentials"] {
        assert_eq!(factory.count(&format!("SELECT COUNT(*) AS n FROM {table}")).await, 0);
    }
}
