//! What the log is told. A binary of its own: tracing remembers for the whole process whether
//! anybody listens to an event, so tests that do not listen would race with this one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop where it is")]

#[path = "../it/support.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest")]
mod support;

use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::{Router, routing::get};
use mt_axum::{Problem, Tenant};
use mt_core::{Error, ErrorKind};
use tracing::instrument::WithSubscriber as _;

use crate::support::{Fleet, HEADER, owner, request, send};

/// Collects what a subscriber writes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Everything that is logged while `request` names `id`.
    async fn of(app: &Router, id: &str) -> String {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        drop(send(app, request(id)).with_subscriber(subscriber).await);
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn the_log_is_told_everything_and_names_tenant_and_provider() {
    async fn logs(Tenant(data): Tenant) -> Result<(), Problem> {
        let owner = owner(&data).await?;
        tracing::info!(owner, "served");
        Ok(())
    }
    let corrupt = Error::new(ErrorKind::Corrupt, "cannot open /srv/tenants/acme.db")
        .with_provider("sqlite")
        .with_source(io::Error::other("file is not a database"));
    let fleet = Fleet::of(&["globex"]).await.with_failing("acme", corrupt);
    let layer = fleet.layer().with_header(HEADER);
    let app = Router::new().route("/", get(logs)).layer(layer);

    let failed = Log::of(&app, "acme").await;
    assert!(failed.contains("ERROR"), "{failed}");
    assert!(failed.contains("tenant_request{tenant=acme provider=sqlite}"), "{failed}");
    assert!(failed.contains("/srv/tenants/acme.db (sqlite): file is not a database"), "{failed}");

    let served = Log::of(&app, "globex").await;
    assert!(served.contains("tenant_request{tenant=globex provider=custom}"), "{served}");
}
