use std::io;

use axum::{
    Router,
    http::{StatusCode, header},
    routing::get,
};
use mt_axum::{Problem, Tenant};
use mt_core::{Error, ErrorKind};
use sea_orm::{ConnectionTrait as _, DbErr};

use crate::support::{Fleet, HEADER, Reply, app, open, request, send};

/// What no client may read: a path, a statement, a host, a secret.
const INSIDE: [&str; 4] = ["/srv/tenants/acme.db", "SELECT", "10.0.0.7", "hunter2"];

fn leaky(kind: ErrorKind) -> Error {
    let [path, sql, host, secret] = INSIDE;
    Error::new(kind, format!("cannot open {path}"))
        .with_provider("sqlite")
        .with_source(io::Error::other(format!("{sql} at {host} with {secret}")))
}

async fn reply_to(kind: ErrorKind) -> Reply {
    let fleet = Fleet::default().with_failing("acme", leaky(kind));
    send(&app(fleet.layer().with_header(HEADER)), request("acme")).await
}

#[tokio::test]
async fn each_kind_has_its_status_and_leaks_nothing() {
    use ErrorKind as Kind;
    let cases = [
        (Kind::InvalidTenant, 400, "tenant-invalid", false),
        (Kind::TenantNotFound, 404, "tenant-not-found", false),
        (Kind::TenantExists, 409, "tenant-exists", false),
        (Kind::TenantNotActive, 503, "tenant-not-active", true),
        (Kind::Unavailable, 503, "unavailable", true),
        (Kind::InUse, 503, "unavailable", true),
        (Kind::SchemaOutdated, 503, "schema-outdated", false),
        (Kind::Config, 500, "blank", false),
        (Kind::NameTaken, 500, "blank", false),
        (Kind::ForeignDatabase, 500, "blank", false),
        (Kind::Unsupported, 500, "blank", false),
        (Kind::Unauthenticated, 500, "blank", false),
        (Kind::QuotaExceeded, 500, "blank", false),
        (Kind::Corrupt, 500, "blank", false),
        (Kind::MigrationFailed, 500, "blank", false),
        (Kind::HookFailed, 500, "blank", false),
        (Kind::Conflict, 500, "blank", false),
        (Kind::OutcomeUnknown, 500, "blank", false),
        (Kind::Statement, 500, "blank", false),
        (Kind::Internal, 500, "blank", false),
    ];
    for (kind, status, problem, retry) in cases {
        let reply = reply_to(kind).await;
        assert_eq!(reply.status, status, "{kind:?}");
        assert_eq!(reply.problem(), problem, "{kind:?}");
        assert_eq!(reply.headers.contains_key(header::RETRY_AFTER), retry, "{kind:?}");
        for inside in INSIDE {
            assert!(!reply.text.contains(inside), "{kind:?} tells {inside}: {}", reply.text);
        }
    }
}

#[tokio::test]
async fn a_handlers_database_errors_are_problems() {
    let text = || INSIDE.join(" ");
    let revoked = Error::new(ErrorKind::TenantNotActive, text()).into_db_err();
    let refused = Error::new(ErrorKind::Unsupported, text()).into_db_err();
    let gone = Error::new(ErrorKind::TenantNotFound, text()).into_db_err();
    let full = DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout);
    let cases = [
        (revoked, 503, "tenant-not-active"),
        (refused, 500, "blank"),
        (gone, 503, "unavailable"),
        (full, 503, "unavailable"),
        (DbErr::RecordNotFound(text()), 404, "blank"),
        (DbErr::Custom(text()), 500, "blank"),
    ];
    for (error, status, problem) in cases {
        let reply = Reply::from(Problem::from_db_err(error)).await;
        assert_eq!((reply.status.as_u16(), &*reply.problem()), (status, problem));
        assert_eq!(reply.headers.contains_key(header::RETRY_AFTER), status == 503);
        for inside in INSIDE {
            assert!(!reply.text.contains(inside), "{inside}: {}", reply.text);
        }
    }
}

#[tokio::test]
async fn a_failing_statement_is_a_500_without_its_text() {
    async fn broken(Tenant(data): Tenant) -> Result<(), Problem> {
        data.execute_unprepared("INSERT INTO nowhere VALUES ('hunter2')")
            .await
            .map_err(Problem::from_db_err)?;
        Ok(())
    }
    let layer = Fleet::of(&["acme"]).await.layer().with_header(HEADER);
    let app = Router::new().route("/", get(broken)).layer(layer);
    let reply = send(&app, request("acme")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (500, "blank"));
    assert!(!reply.text.contains("nowhere") && !reply.text.contains("hunter2"), "{}", reply.text);
}

#[tokio::test]
async fn a_handle_revoked_under_the_handler_is_a_503() {
    let data = open("acme").await;
    let app = app(Fleet::default().with("acme", data.clone()).layer().with_header(HEADER));
    assert_eq!(send(&app, request("acme")).await.status, StatusCode::OK);
    data.close(std::time::Duration::from_secs(5)).await.unwrap();
    let reply = send(&app, request("acme")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (503, "tenant-not-active"));
    assert!(reply.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn an_applications_own_problem_says_what_it_was_given() {
    let reply = Reply::from(Problem::new(StatusCode::FORBIDDEN, "not your tenant")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (403, "blank"));
    assert!(reply.text.contains("Forbidden") && reply.text.contains("not your tenant"));
}
