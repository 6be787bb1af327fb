use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, StatusCode, header, request::Parts},
    routing::get,
};
use mt_axum::{Problem, Tenant, TenantLayer};
use mt_core::{ErrorKind, TenantId};

use crate::support::{Fleet, HEADER, app, request, send};

async fn by_header() -> Router {
    app(Fleet::of(&["acme", "Acme"]).await.layer().with_header(HEADER))
}

async fn by_subdomain() -> Router {
    let fleet = Fleet::of(&["acme", "Globex"]).await;
    app(fleet.layer().with_subdomain_of("Example.com").unwrap())
}

fn at_host(host: &[u8]) -> Request<Body> {
    let host = HeaderValue::from_bytes(host).unwrap();
    Request::get("/").header(header::HOST, host).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_header_names_the_tenant_exactly() {
    let app = by_header().await;
    for id in ["acme", "Acme"] {
        let reply = send(&app, request(id)).await;
        assert_eq!((reply.status, &*reply.text), (StatusCode::OK, id));
    }
    let reply = send(&app, request("ACME")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (404, "tenant-not-found"));
}

#[tokio::test]
async fn no_header_is_no_tenant() {
    let reply = send(&by_header().await, at_host(b"acme.example.com")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (400, "tenant-missing"));
}

#[tokio::test]
async fn hostile_ids_are_refused_before_anybody_is_asked() {
    let app = by_header().await;
    let long = "a".repeat(65);
    let ids: [&[u8]; 15] = [
        b"",
        b" ",
        b".",
        b"..",
        b"../x",
        b"a/b",
        b"a\\b",
        b"-x",
        b"_mt_tenant",
        b"acme,globex",
        b"acme'; DROP TABLE owner; --",
        b"%2e%2e",
        b"acme\t",
        b"\xc3\xa9\xff",
        long.as_bytes(),
    ];
    for id in ids {
        let header = HeaderValue::from_bytes(id).unwrap();
        let request = Request::get("/").header(HEADER, header).body(Body::empty()).unwrap();
        let reply = send(&app, request).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{id:?}");
        assert_eq!(reply.problem(), "tenant-invalid", "{id:?}");
        assert!(!reply.text.contains("DROP"), "what was sent is not sent back");
    }
}

#[tokio::test]
async fn a_header_that_stands_twice_is_refused_even_when_it_says_the_same() {
    let app = by_header().await;
    let request = Request::get("/").header(HEADER, "acme").header(HEADER, "acme");
    let reply = send(&app, request.body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (400, "tenant-ambiguous"));
}

#[tokio::test]
async fn hosts_name_tenants_as_documented() {
    let app = by_subdomain().await;
    let cases: [(&[u8], u16, &str); 19] = [
        (b"acme.example.com", 200, "acme"),
        (b"acme.example.com:8080", 200, "acme"),
        (b"acme.example.com:", 200, "acme"),
        (b"ACME.EXAMPLE.COM", 200, "acme"),
        (b"acme.example.com.", 200, "acme"),
        (b"acme.example.com.:443", 200, "acme"),
        (b"Globex.example.com", 404, "tenant-not-found"),
        (b"nobody.example.com", 404, "tenant-not-found"),
        (b"example.com", 400, "tenant-missing"),
        (b"a.acme.example.com", 400, "tenant-missing"),
        (b"acme.example.com..", 400, "tenant-missing"),
        (b"acme.example.com:x", 400, "tenant-missing"),
        (b"acme.example.org", 400, "tenant-missing"),
        (b"acmeexample.com", 400, "tenant-missing"),
        (b"acme.example.com.evil.org", 400, "tenant-missing"),
        (b"[::1]:8080", 400, "tenant-missing"),
        (b".example.com", 400, "tenant-invalid"),
        (b"evil@acme.example.com", 400, "tenant-invalid"),
        (b"acme\xff.example.com", 400, "tenant-invalid"),
    ];
    for (host, status, says) in cases {
        let reply = send(&app, at_host(host)).await;
        let shown = String::from_utf8_lossy(host);
        assert_eq!(reply.status, status, "{shown}");
        if status == 200 {
            assert_eq!(reply.text, says, "{shown}");
        } else {
            assert_eq!(reply.problem(), says, "{shown}");
        }
    }
}

#[tokio::test]
async fn the_authority_of_the_uri_counts_and_must_agree_with_the_host() {
    let app = by_subdomain().await;
    let at = |uri: &str, host: Option<&str>| {
        let request = Request::get(uri);
        let request = match host {
            Some(host) => request.header(header::HOST, host),
            None => request,
        };
        request.body(Body::empty()).unwrap()
    };
    for host in [None, Some("acme.example.com:443")] {
        let reply = send(&app, at("https://acme.example.com/", host)).await;
        assert_eq!((reply.status, &*reply.text), (StatusCode::OK, "acme"));
    }
    let reply = send(&app, at("https://acme.example.com/", Some("globex.example.com"))).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (400, "tenant-ambiguous"));
    let twice = Request::get("/")
        .header(header::HOST, "acme.example.com")
        .header(header::HOST, "acme.example.com");
    let reply = send(&app, twice.body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (400, "tenant-ambiguous"));
}

#[tokio::test]
async fn forwarded_hosts_are_not_believed() {
    let request = Request::get("/")
        .header(header::HOST, "example.com")
        .header("x-forwarded-host", "acme.example.com")
        .header(header::FORWARDED, "host=acme.example.com");
    let reply = send(&by_subdomain().await, request.body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (400, "tenant-missing"));
}

/// The first segment of the path.
fn in_path(parts: &Parts) -> Result<Option<TenantId>, Problem> {
    match parts.uri.path().split('/').nth(1) {
        None | Some("") => Ok(None),
        Some(id) => Ok(Some(TenantId::new(id)?)),
    }
}

#[tokio::test]
async fn resolvers_that_agree_or_stay_silent_are_one_answer() {
    let layer = Fleet::of(&["acme", "globex"]).await.layer();
    let layer = layer.with_header(HEADER).with_subdomain_of("example.com").unwrap();
    let app = app(layer.with_resolver(in_path));
    let ask = |header: Option<&str>, host: &str, path: &str| {
        let mut request = Request::get(path).header(header::HOST, host);
        if let Some(id) = header {
            request = request.header(HEADER, id);
        }
        send(&app, request.body(Body::empty()).unwrap())
    };
    for (header, host, path) in [
        (Some("acme"), "example.com", "/"),
        (None, "acme.example.com", "/"),
        (None, "example.com", "/acme/users"),
        (Some("acme"), "acme.example.com", "/acme"),
    ] {
        let reply = ask(header, host, path).await;
        assert_eq!((reply.status, &*reply.text), (StatusCode::OK, "acme"), "{host}{path}");
    }
    for (header, host, path, problem) in [
        (Some("acme"), "globex.example.com", "/", "tenant-ambiguous"),
        (Some("Acme"), "acme.example.com", "/", "tenant-ambiguous"),
        (None, "acme.example.com", "/globex", "tenant-ambiguous"),
        (Some("acme"), "example.com", "/globex", "tenant-ambiguous"),
        (Some("acme"), "acme.example.com", "/..", "tenant-invalid"),
        (None, "example.com", "/", "tenant-missing"),
    ] {
        let reply = ask(header, host, path).await;
        assert_eq!((reply.status.as_u16(), &*reply.problem()), (400, problem), "{host}{path}");
    }
}

#[tokio::test]
async fn a_resolver_chooses_its_own_answer() {
    let refuse = |_: &Parts| Err(Problem::new(StatusCode::UNAUTHORIZED, "the token has expired"));
    let layer = Fleet::of(&["acme"]).await.layer().with_resolver(refuse);
    let reply = send(&app(layer), request("acme")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (401, "blank"));
}

#[tokio::test]
async fn a_layer_without_resolvers_serves_nobody() {
    let reply = send(&app(Fleet::of(&["acme"]).await.layer()), request("acme")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (500, "blank"));
}

#[tokio::test]
async fn a_route_outside_the_layer_gets_no_database() {
    async fn handler(_: Tenant) {}
    let layer = Fleet::of(&["acme"]).await.layer().with_header(HEADER);
    let app = Router::new().route("/in", get(handler)).layer(layer).route("/", get(handler));
    let reply = send(&app, request("acme")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (500, "blank"));
    assert!(reply.text.contains("TenantLayer"), "{}", reply.text);
}

#[tokio::test]
async fn caches_are_told_which_header_chose_the_tenant() {
    let app = by_header().await;
    for id in ["acme", "nobody", ".."] {
        let reply = send(&app, request(id)).await;
        assert_eq!(reply.headers[header::VARY], HEADER.as_str(), "{id}");
    }
}

#[tokio::test]
async fn a_domain_that_is_none_is_refused_when_the_layer_is_made() {
    let layer: TenantLayer = Fleet::default().layer();
    let error = layer.with_subdomain_of("https://example.com").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
