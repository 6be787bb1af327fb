//! The admin API of sqld.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use axum::http::StatusCode;
use reqwest::{Client, Method, Response};
use serde::Serialize;
use serde_json::{Value, json};

/// How long one request may take; a dump of some size is loaded in one.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of it.
#[derive(Debug)]
pub(crate) struct Admin {
    client: Client,
    data: String,
    admin: String,
}

/// What can be configured of a namespace. sqld replaces all of it at once.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) block_reads: bool,
    pub(crate) block_writes: bool,
    pub(crate) block_reason: Option<String>,
    /// As sqld parses it: "256mb". What is left out keeps its value.
    pub(crate) max_db_size: String,
    /// Public keys in PEM, one after the other; a token signed by any of them is taken.
    pub(crate) jwt_key: String,
}

/// sqld said no.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sqld answered {}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Admin {
    pub(crate) fn new(data: u16, admin: u16) -> anyhow::Result<Self> {
        let client = crate::http::client().timeout(PATIENCE).build()?;
        let [data, admin] = [data, admin].map(|port| format!("http://127.0.0.1:{port}"));
        Ok(Self { client, data, admin })
    }

    /// Whether both planes answer.
    pub(crate) async fn is_ready(&self) -> bool {
        for base in [&self.data, &self.admin] {
            let answer = self.client.get(format!("{base}/health")).send().await;
            if !answer.is_ok_and(|answer| answer.status().is_success()) {
                return false;
            }
        }
        true
    }

    pub(crate) async fn create(&self, namespace: &str, settings: &Settings) -> anyhow::Result<()> {
        let body = json!({"jwt_key": settings.jwt_key, "max_db_size": settings.max_db_size});
        self.call(Method::POST, &format!("{namespace}/create"), Some(&body)).await?;
        Ok(())
    }

    /// Creates a namespace with what a SQL script makes. When the script fails, sqld leaves the
    /// namespace there, empty.
    pub(crate) async fn load(
        &self,
        namespace: &str,
        settings: &Settings,
        script: &Path,
    ) -> anyhow::Result<()> {
        let body = json!({
            "jwt_key": settings.jwt_key,
            "max_db_size": settings.max_db_size,
            "dump_url": format!("file://{}", script.display()),
        });
        self.call(Method::POST, &format!("{namespace}/create"), Some(&body)).await?;
        Ok(())
    }

    /// Copies the data and the settings of a namespace into a new one.
    pub(crate) async fn fork(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.call(Method::POST, &format!("{from}/fork/{to}"), Some(&json!({}))).await?;
        Ok(())
    }

    pub(crate) async fn delete(&self, namespace: &str) -> anyhow::Result<()> {
        self.call(Method::DELETE, namespace, None).await?;
        Ok(())
    }

    pub(crate) async fn configure(
        &self,
        namespace: &str,
        settings: &Settings,
    ) -> anyhow::Result<()> {
        let body = serde_json::to_value(settings)?;
        self.call(Method::POST, &format!("{namespace}/config"), Some(&body)).await?;
        Ok(())
    }

    pub(crate) async fn stats(&self, namespace: &str) -> anyhow::Result<Value> {
        let answer = self.call(Method::GET, &format!("{namespace}/stats"), None).await?;
        answer.json().await.context("the statistics of sqld")
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let mut request =
            self.client.request(method, format!("{}/v1/namespaces/{path}", self.admin));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.context("sqld does not answer")?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let message = answer.text().await.unwrap_or_default();
        Err(Refusal { status, message }.into())
    }
}
