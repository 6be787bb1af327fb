use std::{
    collections::BTreeSet,
    future::IntoFuture as _,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::Router;
use multi_tenancy::{
    MultiTenancy,
    cli::{Options, Settings},
};
use reqwest::{Client, Method, RequestBuilder, StatusCode, header};
use saas_api::TENANT_HEADER;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

/// Only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service of a test's own.
pub(crate) struct Service {
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) tenants: MultiTenancy,
    pub(crate) data: TempDir,
    server: JoinHandle<()>,
}

impl Service {
    /// With these tenants signed up.
    pub(crate) async fn with(ids: &[&str]) -> Self {
        Self::on(&[], ids).await
    }

    /// On the provider that these variables say, with these tenants signed up.
    pub(crate) async fn on(environment: &[(&str, String)], ids: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let settings = settings(data.path(), environment);
        let (router, tenants) = saas_api::app(&settings, saas_api::DEFAULT_DOMAIN).await.unwrap();
        let service = Self::of(router, tenants, data).await;
        for id in ids {
            let reply = service.sign_up(id).await;
            assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
        }
        service
    }

    /// One that is put together already.
    pub(crate) async fn of(router: Router, tenants: MultiTenancy, data: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = axum::serve(listener, router).into_future();
        let server = tokio::spawn(async { server.await.unwrap() });
        Self { url, client: client(), tenants, data, server }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn sign_up(&self, id: &str) -> Reply {
        self.sign_up_by(id, &owner(id)).await
    }

    pub(crate) async fn sign_up_by(&self, id: &str, email: &str) -> Reply {
        let body = json!({"id": id, "owner": {"email": email, "name": "Olivia"}});
        send(self.request(Method::POST, "/tenants").json(&body)).await
    }

    pub(crate) async fn get(&self, tenant: &str, path: &str) -> Reply {
        send(self.request(Method::GET, path).header(TENANT_HEADER, tenant)).await
    }

    pub(crate) async fn delete(&self, tenant: &str, path: &str) -> Reply {
        send(self.request(Method::DELETE, path).header(TENANT_HEADER, tenant)).await
    }

    pub(crate) async fn post(&self, tenant: &str, path: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).header(TENANT_HEADER, tenant).json(&body)).await
    }

    pub(crate) async fn put(&self, tenant: &str, path: &str, body: Value) -> Reply {
        send(self.request(Method::PUT, path).header(TENANT_HEADER, tenant).json(&body)).await
    }

    /// Everything that is in the service's folder, and every tenant of its catalog.
    pub(crate) async fn everything(&self) -> (BTreeSet<PathBuf>, Vec<String>) {
        let tenants = self.tenants.list().await.unwrap();
        let tenants = tenants.iter().map(|record| record.tenant.to_string()).collect();
        (files(self.data.path()), tenants)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The settings with a data folder of a test's own, whatever the environment says.
pub(crate) fn settings(data_dir: &Path, environment: &[(&str, String)]) -> Settings {
    let options = Options { data_dir: Some(data_dir.to_owned()), ..Options::default() };
    let environment = environment.iter().map(|(name, value)| (*name, value.as_str()));
    Settings::load_from(&options, environment).unwrap()
}

/// The address of whoever signs `id` up.
pub(crate) fn owner(id: &str) -> String {
    format!("owner@{id}.example")
}

pub(crate) fn client() -> Client {
    mt_devservers::http_client().timeout(PATIENCE).build().unwrap()
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        // SQLite makes and removes these as connections come and go.
        let is_side_file =
            [".sqlite-wal", ".sqlite-shm"].iter().any(|end| path.to_string_lossy().ends_with(end));
        if !is_side_file {
            found.insert(path);
        }
    }
    found
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

impl Reply {
    /// The last part of the problem's `type`, once it has been seen that it is a problem of this
    /// status.
    pub(crate) fn problem(&self, status: StatusCode) -> &str {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.content_type, "application/problem+json", "{}", self.body);
        assert_eq!(self.body["status"], status.as_u16());
        self.body["type"].as_str().unwrap().rsplit(':').next().unwrap()
    }

    /// The texts of one field, if the answer is a list.
    pub(crate) fn column(&self, field: &str) -> Vec<&str> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        let rows = self.body.as_array().unwrap();
        rows.iter().map(|row| row[field].as_str().unwrap()).collect()
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map_or("", |value| value.to_str().unwrap()).to_owned();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Reply { status, content_type, body }
}
