//! The same service with databases that are reached over the network: nothing but settings differs.

use mt_devservers::{D1, Postgres, Turso};
use multi_tenancy::{ErrorKind, TenantId, TenantState};
use reqwest::StatusCode;
use saas_api::TENANT_HEADER;
use serde_json::json;

use crate::{
    process::start_on,
    support::{Service, client, owner, send},
};

/// Where the databases are.
enum Server {
    D1(Box<D1>),
    Postgres(Box<Postgres>),
    Turso(Box<Turso>),
}

impl Server {
    async fn d1() -> Self {
        Self::D1(Box::new(D1::start().await.unwrap()))
    }

    async fn postgres() -> Self {
        Self::Postgres(Box::new(Postgres::start().await.unwrap()))
    }

    async fn turso() -> Self {
        Self::Turso(Box::new(Turso::start().await.unwrap()))
    }

    fn provider(&self) -> &'static str {
        match self {
            Self::D1(_) => "d1",
            Self::Postgres(_) => "postgres",
            Self::Turso(_) => "turso",
        }
    }

    /// The settings of a service whose databases are there.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = match self {
            Self::D1(server) => server.environment(),
            Self::Postgres(server) => server.environment(),
            Self::Turso(server) => server.environment(),
        };
        environment.push(("MT_PROVIDER", self.provider().to_owned()));
        environment
    }
}

/// Makes a test of each check, on each server.
macro_rules! on_each_server {
    ($($check:ident,)*) => {
        mod d1 {
            $(#[tokio::test]
            async fn $check() {
                super::$check(super::Server::d1().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $check() {
                super::$check(super::Server::postgres().await).await;
            })*
        }
        mod turso {
            $(#[tokio::test]
            async fn $check() {
                super::$check(super::Server::turso().await).await;
            })*
        }
    };
}

on_each_server! {
    a_tenant_signs_up_and_sees_its_own_rows_only,
    what_the_database_refuses_is_the_same_problem_as_on_sqlite,
    a_tenant_that_is_suspended_or_removed_is_not_served,
    the_program_takes_its_provider_from_flags_and_environment,
}

async fn a_tenant_signs_up_and_sees_its_own_rows_only(server: Server) {
    let service = Service::on(&server.environment(), &["acme", "globex"]).await;
    for tenant in ["acme", "globex"] {
        let user = json!({"email": format!("ada@{tenant}.example"), "name": "Ada"});
        let added = service.post(tenant, "/users", user).await;
        assert_eq!(added.status, StatusCode::CREATED, "{}", added.body);
    }
    for tenant in ["acme", "globex"] {
        let users = service.get(tenant, "/users").await;
        assert_eq!(users.column("email"), [owner(tenant), format!("ada@{tenant}.example")]);
        let logs = service.get(tenant, "/logs").await;
        assert_eq!(logs.column("message"), [format!("welcome, {tenant}")]);
        assert_eq!(service.get(tenant, "/settings/plan").await.body["value"], "trial");
    }
    // No tenant has a file here.
    assert!(!service.data.path().join("tenants").exists());
    assert!(service.data.path().join("control.db").is_file());
}

async fn what_the_database_refuses_is_the_same_problem_as_on_sqlite(server: Server) {
    let service = Service::on(&server.environment(), &["acme"]).await;
    let again = service.post("acme", "/users", json!({"email": owner("acme"), "name": "A"})).await;
    again.problem(StatusCode::CONFLICT);
    let nobody = "00000000-0000-0000-0000-000000000000";
    let log = json!({"user_id": nobody, "kind": "joined", "message": "hello"});
    service.post("acme", "/logs", log).await.problem(StatusCode::BAD_REQUEST);
    assert_eq!(service.sign_up("acme").await.problem(StatusCode::CONFLICT), "tenant-exists");
    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);
}

async fn a_tenant_that_is_suspended_or_removed_is_not_served(server: Server) {
    let service = Service::on(&server.environment(), &["acme", "globex"]).await;
    let acme = TenantId::new("acme").unwrap();
    service.tenants.suspend(&acme).await.unwrap();
    service.get("acme", "/users").await.problem(StatusCode::SERVICE_UNAVAILABLE);
    service.tenants.activate(&acme).await.unwrap();
    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);

    service.tenants.deprovision(&acme).await.unwrap();
    service.get("acme", "/users").await.problem(StatusCode::NOT_FOUND);
    let gone = service.tenants.catalog().find(&acme).await.unwrap().unwrap();
    assert_eq!(gone.state, TenantState::Deleted);
    let again = service.tenants.deprovision(&acme).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::TenantNotFound);
    assert_eq!(service.get("globex", "/users").await.column("email"), [owner("globex")]);
}

async fn the_program_takes_its_provider_from_flags_and_environment(server: Server) {
    let data = tempfile::tempdir().unwrap();
    let (_child, url, _lines) =
        start_on(data.path(), server.provider(), &server.environment()).await;
    let http = client();
    let body = json!({"id": "acme", "owner": {"email": owner("acme"), "name": "Olivia"}});
    let reply = send(http.post(format!("{url}/tenants")).json(&body)).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
    let users = http.get(format!("{url}/users")).header(TENANT_HEADER, "acme");
    assert_eq!(send(users).await.column("email"), [owner("acme")]);
}
