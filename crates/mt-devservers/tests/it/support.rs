//! A client that knows nothing but HTTP.

use mt_devservers::Turso;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// A platform, and a client of it.
pub(crate) struct Site {
    pub(crate) turso: Turso,
    pub(crate) client: Client,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::of(Turso::start().await.unwrap())
    }

    pub(crate) fn of(turso: Turso) -> Self {
        // One connection a request: a fault that cuts one meets no other request.
        let client = mt_devservers::http_client().pool_max_idle_per_host(0).build().unwrap();
        Self { turso, client }
    }

    /// The address of `path` in the organization.
    pub(crate) fn url(&self, path: &str) -> String {
        let turso = &self.turso;
        format!("{}/v1/organizations/{}{path}", turso.api_url(), turso.organization())
    }

    pub(crate) async fn api(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.client.request(method, self.url(path));
        let mut request = request.bearer_auth(self.turso.api_token());
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.api(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.api(Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.api(Method::DELETE, path, Value::Null).await
    }

    /// Creates a database in the first group, and opens it.
    pub(crate) async fn create(&self, name: &str) -> Database {
        self.create_with(json!({"name": name, "group": self.turso.group()})).await
    }

    pub(crate) async fn create_with(&self, wish: Value) -> Database {
        let (status, answer) = self.post("/databases", wish).await;
        assert_eq!(status, 200, "{answer}");
        let of = |key: &str| answer["database"][key].as_str().unwrap().to_owned();
        let token = self.token(&format!("/databases/{}/auth/tokens", of("Name"))).await;
        Database { client: self.client.clone(), host: of("Hostname"), token }
    }

    /// Mints a token.
    pub(crate) async fn token(&self, path: &str) -> String {
        let (status, answer) = self.post(path, Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        answer["jwt"].as_str().unwrap().to_owned()
    }
}

/// A database, as one reaches it.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) client: Client,
    pub(crate) host: String,
    pub(crate) token: String,
}

impl Database {
    pub(crate) fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    /// The request `path` with this database's host and token.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        // `*.localhost` is not resolved everywhere.
        let (_, port) = self.host.split_once(':').unwrap();
        let request = self.client.request(method, format!("http://127.0.0.1:{port}{path}"));
        let request = request.header("host", &self.host);
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    pub(crate) async fn pipeline(&self, sql: &str) -> reqwest::Result<reqwest::Response> {
        let statement = json!({"type": "execute", "stmt": {"sql": sql}});
        let body = json!({"baton": null, "requests": [statement, {"type": "close"}]});
        self.request(Method::POST, "/v3/pipeline").json(&body).send().await
    }

    /// Status and body of one statement.
    pub(crate) async fn answer(&self, sql: &str) -> (StatusCode, Value) {
        let answer = self.pipeline(sql).await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The rows of a statement that succeeds.
    pub(crate) async fn rows(&self, sql: &str) -> Value {
        let (status, answer) = self.answer(sql).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        let result = &answer["results"][0];
        assert_eq!(result["type"], "ok", "{sql}: {answer}");
        result["response"]["result"]["rows"].clone()
    }

    /// The code of a statement that fails in a stream that is fine.
    pub(crate) async fn code(&self, sql: &str) -> String {
        let (status, answer) = self.answer(sql).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        let code = answer["results"][0]["error"]["code"].as_str();
        code.unwrap_or_else(|| panic!("{sql}: {answer}")).to_owned()
    }

    pub(crate) async fn status(&self, sql: &str) -> StatusCode {
        self.answer(sql).await.0
    }
}
