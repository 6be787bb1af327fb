//! A control plane that says what a test tells it to say, and remembers what it was asked.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use mt_core::Secret;
use mt_remote::{Endpoint, HttpSettings, http_client};
use mt_turso::{PlatformClient, PlatformLimits};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// The platform token of every test. Looks like one, and must never be seen in an error.
pub(crate) const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.eyJvcmciOiJ0ZXN0In0.cGxhdGZvcm0";

/// What the server says.
#[derive(Clone)]
pub(crate) enum Reply {
    Json(u16, Value),
    /// 429, with these seconds to wait.
    Overrun(u64),
    /// A gateway's page.
    Html(u16),
    /// The beginning of an answer, and the end of the connection.
    Torn,
    /// Nothing, for as long as the client waits.
    Hang,
    Empty,
    Bytes(&'static [u8]),
    /// The beginning of an answer, and the end of the connection when the test says so.
    Cut(Arc<Notify>),
}

pub(crate) fn ok(body: Value) -> Reply {
    Reply::Json(200, body)
}

pub(crate) fn error(status: u16, text: &str) -> Reply {
    Reply::Json(status, json!({ "error": text }))
}

pub(crate) fn database(name: &str) -> Value {
    json!({
        "Name": name, "DbId": format!("id-{name}"), "Hostname": format!("{name}-org.localhost"),
        "group": "main",
    })
}

/// What the server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Such as `GET /databases?limit=100`, under the organization.
    pub(crate) line: String,
    pub(crate) token: Option<String>,
    pub(crate) length: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Script {
    replies: HashMap<String, Vec<Reply>>,
    seen: Vec<Seen>,
    running: usize,
    most_running: usize,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Script>>);

pub(crate) struct Replay {
    shared: Shared,
    port: u16,
    server: JoinHandle<()>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Replay {
    pub(crate) async fn start() -> Self {
        let shared = Shared::default();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { shared, port, server }
    }

    /// Says `replies` to `line`, one after the other, and the last again and again.
    pub(crate) fn on(&self, line: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        let replies: Vec<Reply> = replies.into_iter().collect();
        self.shared.0.lock().unwrap().replies.insert(line.to_owned(), replies);
        self
    }

    pub(crate) fn host(&self) -> String {
        format!("db.localhost:{}", self.port)
    }

    pub(crate) fn client(&self, limits: PlatformLimits) -> PlatformClient {
        client(&format!("http://127.0.0.1:{}", self.port), limits)
    }

    /// A client that gives up a slow request soon, and an operation after a few of them.
    pub(crate) fn hasty(&self) -> PlatformClient {
        self.client(hasty())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.0.lock().unwrap().seen.clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|seen| *seen == line).count()
    }

    /// The most requests that were there at once.
    pub(crate) fn most_running(&self) -> usize {
        self.shared.0.lock().unwrap().most_running
    }
}

pub(crate) fn hasty() -> PlatformLimits {
    PlatformLimits::default()
        .with_request_timeout(Duration::from_millis(300))
        .with_deadline(Duration::from_secs(2))
        .with_first_delay(Duration::from_millis(10))
}

pub(crate) fn client(url: &str, limits: PlatformLimits) -> PlatformClient {
    let seconds = Duration::from_secs(30);
    let http = http_client(HttpSettings { connect_timeout: seconds, timeout: seconds }).unwrap();
    let endpoint = Endpoint::new(url).unwrap();
    PlatformClient::new(http, endpoint, "org", Secret::new(TOKEN), limits).unwrap()
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.to_string();
    let path = target.strip_prefix("/v1/organizations/org").unwrap_or(&target);
    let line = format!("{} {path}", parts.method);
    let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let token = text(header::AUTHORIZATION);
    let length = text(header::CONTENT_LENGTH);
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let reply = {
        let mut script = shared.0.lock().unwrap();
        script.seen.push(Seen { line: line.clone(), token, length, body, at: Instant::now() });
        script.running += 1;
        script.most_running = script.most_running.max(script.running);
        match script.replies.get_mut(&line) {
            Some(replies) if replies.len() > 1 => replies.remove(0),
            Some(replies) => replies[0].clone(),
            None => error(400, &format!("the test expects no {line}")),
        }
    };
    // Others may come meanwhile, so that `most_running` sees them.
    tokio::task::yield_now().await;
    let response = respond(reply).await;
    shared.0.lock().unwrap().running -= 1;
    response
}

async fn respond(reply: Reply) -> Response {
    match reply {
        Reply::Json(status, body) => {
            (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
        }
        Reply::Overrun(seconds) => {
            let headers = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, headers, "slow down").into_response()
        }
        Reply::Html(status) => {
            let headers = [(header::CONTENT_TYPE, "text/html")];
            let page = format!("<html>the gateway was given {TOKEN}</html>");
            (StatusCode::from_u16(status).unwrap(), headers, page).into_response()
        }
        Reply::Torn => {
            let begin = stream::iter([Ok(r#"{"database":{"Na"#), Err("the line is cut")]);
            Response::new(Body::from_stream(begin))
        }
        Reply::Cut(cut) => {
            let end = async move {
                cut.notified().await;
                Err("the line is cut")
            };
            let begin = stream::iter([Ok("BEGIN;\n")]).chain(stream::once(end));
            Response::new(Body::from_stream(begin))
        }
        Reply::Hang => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
        Reply::Empty => StatusCode::OK.into_response(),
        Reply::Bytes(bytes) => bytes.into_response(),
    }
}
