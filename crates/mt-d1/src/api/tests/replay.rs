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
use futures_util::stream;
use mt_core::Secret;
use mt_remote::{Endpoint, HttpSettings, http_client};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    api::{ApiLimits, D1Client},
    budget::{Budget, BudgetSettings},
};

/// The token of every test. Must never be seen in an error.
pub(super) const TOKEN: &str = "v1.0-api-token-of-the-tests";

/// What the server says.
#[derive(Clone)]
pub(super) enum Reply {
    Json(u16, Value),
    /// 429, with these seconds to wait.
    Overrun(u64),
    /// A gateway's page.
    Html(u16),
    /// Somewhere else, with the token or not.
    Redirect(String),
    /// The beginning of an answer, and the end of the connection.
    Torn,
    /// Nothing, for as long as the client waits.
    Hang,
    Bytes(Vec<u8>),
}

/// A success, as its envelope has it.
pub(super) fn ok(result: impl Into<Value>) -> Reply {
    let result: Value = result.into();
    Reply::Json(200, json!({ "success": true, "errors": [], "messages": [], "result": result }))
}

/// A refusal, as its envelope has it.
pub(super) fn error(status: u16, code: i64, message: &str) -> Reply {
    let errors = json!([{ "code": code, "message": message }]);
    let body = json!({ "success": false, "errors": errors, "messages": [], "result": null });
    Reply::Json(status, body)
}

pub(super) fn missing() -> Reply {
    error(404, 7404, "The database could not be found")
}

pub(super) fn database(uuid: &str, name: &str) -> Value {
    json!({ "uuid": uuid, "name": name, "version": "production", "file_size": 12288 })
}

/// What the server was asked.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Such as `GET /accounts/acc/d1/database`, shortened to `GET `.
    pub(super) line: String,
    pub(super) token: Option<String>,
    pub(super) body: Vec<u8>,
    pub(super) at: Instant,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Script {
    replies: HashMap<String, Vec<Reply>>,
    seen: Vec<Seen>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Script>>);

pub(super) struct Replay {
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
    pub(super) async fn start() -> Self {
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
    pub(super) fn on(&self, line: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        let replies: Vec<Reply> = replies.into_iter().collect();
        self.shared.0.lock().unwrap().replies.insert(line.to_owned(), replies);
        self
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn client(&self, limits: ApiLimits) -> D1Client {
        client(&self.url(), limits)
    }

    /// A client that gives up a slow request soon, and an operation after a few of them.
    pub(super) fn hasty(&self) -> D1Client {
        self.client(hasty())
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.0.lock().unwrap().seen.clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    pub(super) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|seen| *seen == line).count()
    }
}

pub(super) fn hasty() -> ApiLimits {
    ApiLimits::default()
        .with_request_timeout(Duration::from_millis(300))
        .with_deadline(Duration::from_secs(2))
        .with_longest_wait(Duration::from_secs(2))
        .with_longest_control_wait(Duration::from_secs(5))
        .with_first_delay(Duration::from_millis(10))
        .with_poll_interval(Duration::from_millis(20))
}

pub(super) fn client(url: &str, limits: ApiLimits) -> D1Client {
    let seconds = Duration::from_secs(30);
    let http = http_client(HttpSettings { connect_timeout: seconds, timeout: seconds }).unwrap();
    let endpoint = Endpoint::new(&format!("{url}/client/v4")).unwrap();
    D1Client::of_account(http, endpoint, "acc", Secret::new(TOKEN), budget(), limits).unwrap()
}

pub(super) fn budget() -> Arc<Budget> {
    Arc::new(Budget::new(BudgetSettings::default()).unwrap())
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.to_string();
    let path = target.strip_prefix("/client/v4/accounts/acc/d1/database").unwrap_or(&target);
    let line = format!("{} {path}", parts.method);
    let token = parts.headers.get(header::AUTHORIZATION);
    let token = token.map(|value| value.to_str().unwrap().to_owned());
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let reply = {
        let mut script = shared.0.lock().unwrap();
        script.seen.push(Seen { line: line.clone(), token, body, at: Instant::now() });
        match script.replies.get_mut(&line) {
            Some(replies) if replies.len() > 1 => replies.remove(0),
            Some(replies) => replies[0].clone(),
            None => error(400, 1, &format!("the test expects no {line}")),
        }
    };
    respond(reply).await
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
        Reply::Redirect(url) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response()
        }
        Reply::Torn => {
            let begin = stream::iter([Ok(r#"{"success":true,"resu"#), Err("the line is cut")]);
            Response::new(Body::from_stream(begin))
        }
        Reply::Hang => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
        Reply::Bytes(bytes) => bytes.into_response(),
    }
}
