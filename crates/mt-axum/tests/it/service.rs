use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use mt_axum::Tenant;
use mt_core::TenantId;
use tower::{Layer as _, Service, ServiceExt as _};

use crate::support::{Fleet, HEADER, Reply};

/// Serves one request per `poll_ready`, and none without; a clone starts unready. Bodies are
/// numbers, to show that the layer does not care.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<u64>> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called before it was ready");
        let id: Option<&TenantId> = request.extensions().get::<Tenant>().map(|data| data.tenant());
        let text = format!("{id:?} {}", request.body());
        ready(Ok(Response::new(Body::from(text))))
    }
}

#[tokio::test]
async fn any_tower_service_is_called_when_it_is_ready() {
    let layer = Fleet::of(&["acme"]).await.layer().with_header(HEADER);
    let mut service = layer.layer(Strict::default());
    for number in 0..3 {
        let request = Request::builder().header(HEADER, "acme").body(number).unwrap();
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        let reply = Reply::from(response).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.text, format!("Some(TenantId(acme)) {number}"));
    }
}

#[tokio::test]
async fn a_refused_request_does_not_reach_the_service() {
    let layer = Fleet::of(&["acme"]).await.layer().with_header(HEADER);
    let request = Request::builder().header(HEADER, "globex").body(7).unwrap();
    let response = layer.layer(Strict::default()).oneshot(request).await.unwrap();
    assert_eq!(Reply::from(response).await.problem(), "tenant-not-found");
}
