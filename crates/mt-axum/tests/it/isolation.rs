use std::sync::Arc;

use axum::{Router, http::StatusCode, routing::get};
use mt_axum::{Problem, Tenant};
use tokio::task::JoinSet;

use crate::support::{Fleet, HEADER, app, open, owner, request, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_tenants_are_never_crossed() {
    /// Asks twice, with others in between.
    async fn handler(Tenant(data): Tenant) -> Result<String, Problem> {
        let before = owner(&data).await?;
        tokio::task::yield_now().await;
        let after = owner(&data).await?;
        Ok(format!("{} {before} {after}", data.tenant()))
    }
    let layer = Fleet::of(&["acme", "globex"]).await.layer().with_header(HEADER);
    let app = Arc::new(Router::new().route("/", get(handler)).layer(layer));
    let mut requests = JoinSet::new();
    for number in 0..200 {
        let id = if number % 2 == 0 { "acme" } else { "globex" };
        let app = Arc::clone(&app);
        requests.spawn(async move { (id, send(&app, request(id)).await) });
    }
    let mut answered = 0;
    while let Some(done) = requests.join_next().await {
        let (id, reply) = done.unwrap();
        assert_eq!((reply.status, reply.text), (StatusCode::OK, format!("{id} {id} {id}")));
        answered += 1;
    }
    assert_eq!(answered, 200);
}

#[tokio::test]
async fn a_source_that_answers_with_another_tenants_database_is_not_believed() {
    let fleet = Fleet::default().with("acme", open("globex").await);
    let reply = send(&app(fleet.layer().with_header(HEADER)), request("acme")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (500, "blank"));
    assert!(!reply.text.contains("globex"), "{}", reply.text);
}

#[tokio::test]
async fn an_inner_layer_cannot_change_the_tenant() {
    let outer = |id: &'static str| {
        let inner = Fleet::of(&["acme"]);
        let outer = Fleet::of(&["acme", "globex"]);
        Box::pin(async move {
            let inner = app(inner.await.layer().with_header(HEADER));
            let name = move |_: &_| Ok(Some(mt_core::TenantId::new(id)?));
            send(&inner.layer(outer.await.layer().with_resolver(name)), request("acme")).await
        })
    };
    let same = outer("acme").await;
    assert_eq!((same.status, &*same.text), (StatusCode::OK, "acme"));
    let other = outer("globex").await;
    assert_eq!((other.status.as_u16(), &*other.problem()), (400, "tenant-ambiguous"));
}
