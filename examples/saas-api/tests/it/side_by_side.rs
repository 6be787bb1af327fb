//! One service with tenants on all four engines.

use mt_devservers::{D1, Postgres, Turso};
use multi_tenancy::{MultiTenancy, TenantId};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Service, owner, settings};

const PROVIDERS: [&str; 4] = ["d1", "postgres", "sqlite", "turso"];

fn id(provider: &str) -> String {
    format!("on-{provider}")
}

/// Adds users to a tenant, each after it has seen those before, and no others.
async fn use_it(service: &Service, provider: &str) {
    let id = id(provider);
    let mut expected: Vec<String> = vec![owner(&id)];
    for number in 0..5 {
        let email = format!("user-{number}@{id}.example");
        let added = service.post(&id, "/users", json!({"email": email, "name": "U"})).await;
        assert_eq!(added.status, StatusCode::CREATED, "{}", added.body);
        expected.push(email);
        assert_eq!(service.get(&id, "/users").await.column("email"), expected);
    }
    let users = service.get(&id, "/users").await;
    let users: Vec<&str> =
        users.body.as_array().unwrap().iter().map(|u| u["id"].as_str().unwrap()).collect();
    for other in PROVIDERS.iter().filter(|other| **other != provider) {
        for user in &users {
            let there = service.get(&self::id(other), &format!("/users/{user}")).await;
            assert_eq!(there.status, StatusCode::NOT_FOUND, "{}", there.body);
        }
    }
    let logs = service.get(&id, "/logs").await;
    assert_eq!(logs.column("message"), [format!("welcome, {id}")]);
}

/// A service with the settings of all, that gives new tenants to `provider`.
async fn sign_up_on(
    service: &Service,
    environment: &[(&'static str, String)],
    provider: &'static str,
) -> MultiTenancy {
    let mut environment = environment.to_vec();
    environment.push(("MT_PROVIDER", provider.to_owned()));
    let settings = settings(service.data.path(), &environment);
    let (router, tenants) = saas_api::app(&settings, saas_api::DEFAULT_DOMAIN).await.unwrap();
    let other = Service::of(router, tenants.clone(), tempfile::tempdir().unwrap()).await;
    let signed_up = other.sign_up(&id(provider)).await;
    assert_eq!(signed_up.status, StatusCode::CREATED, "{}", signed_up.body);
    tenants
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_the_tenants_of_all_of_them() {
    let (d1, postgres, turso) = tokio::join!(D1::start(), Postgres::start(), Turso::start());
    let (d1, postgres, turso) = (d1.unwrap(), postgres.unwrap(), turso.unwrap());
    let mut environment = d1.environment();
    environment.extend(postgres.environment());
    environment.extend(turso.environment());

    let service = Service::on(&environment, &[]).await;
    for provider in PROVIDERS {
        sign_up_on(&service, &environment, provider).await.shutdown().await.unwrap();
        let tenant = TenantId::new(id(provider)).unwrap();
        let record = service.tenants.catalog().get(&tenant).await.unwrap();
        assert_eq!(record.provider, provider);
    }
    // All at once, in one program.
    tokio::join!(
        use_it(&service, PROVIDERS[0]),
        use_it(&service, PROVIDERS[1]),
        use_it(&service, PROVIDERS[2]),
        use_it(&service, PROVIDERS[3]),
    );
    // One that is gone takes nobody with it.
    turso.sqld().kill().unwrap();
    let gone = service.get(&id("turso"), "/users").await;
    assert_eq!(gone.status, StatusCode::SERVICE_UNAVAILABLE, "{}", gone.body);
    for provider in ["d1", "postgres", "sqlite"] {
        assert_eq!(service.get(&id(provider), "/users").await.status, StatusCode::OK);
    }
}
