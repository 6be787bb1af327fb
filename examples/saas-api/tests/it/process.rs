//! The program, as a process of its own.

use std::{path::Path, process::Stdio};

use reqwest::StatusCode;
use saas_api::TENANT_HEADER;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{client, owner, send};

/// A running service, the address it printed, and the rest of what it prints.
pub(crate) async fn start(data: &Path) -> (Child, String, Lines<BufReader<ChildStdout>>) {
    start_on(data, "sqlite", &[]).await
}

/// On a provider, with its settings in the environment.
pub(crate) async fn start_on(
    data: &Path,
    provider: &str,
    environment: &[(&str, String)],
) -> (Child, String, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_saas-api"))
        .args(["--listen", "127.0.0.1:0", "--provider", provider, "--data-dir"])
        .arg(data)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let url = line.strip_prefix("listening on ").unwrap().to_owned();
    (child, url, lines)
}

async fn stop(child: &mut Child, signal: &str) {
    let id = child.id().unwrap().to_string();
    let sent = Command::new("kill").args([signal, &id]).status().await.unwrap();
    assert!(sent.success());
    let ended = child.wait().await.unwrap();
    assert!(ended.success(), "{signal}: {ended}");
}

#[tokio::test]
async fn it_says_where_it_listens_and_stops_when_it_is_asked_to() {
    let data = tempfile::tempdir().unwrap();
    let http = client();
    for (signal, status) in [("-TERM", StatusCode::CREATED), ("-INT", StatusCode::CONFLICT)] {
        let (mut child, url, mut lines) = start(data.path()).await;
        let body = json!({"id": "acme", "owner": {"email": owner("acme"), "name": "Olivia"}});
        let reply = send(http.post(format!("{url}/tenants")).json(&body)).await;
        assert_eq!(reply.status, status, "{}", reply.body);
        let users = http.get(format!("{url}/users")).header(TENANT_HEADER, "acme");
        assert_eq!(send(users).await.column("email"), [owner("acme")]);
        stop(&mut child, signal).await;
        assert_eq!(lines.next_line().await.unwrap(), None, "one line, and no more");
    }
}

#[tokio::test]
async fn it_does_not_start_where_it_cannot_listen() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_saas-api"));
    command.arg("--listen").arg(taken.local_addr().unwrap().to_string());
    command.arg("--data-dir").arg(data.path());
    let output = command.output().await.unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}
