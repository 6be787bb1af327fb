//! What a catalog promises, on each engine that keeps one.

mod both;
mod server;

use std::sync::Arc;

use futures_util::future::join_all;
use mt_core::{Result, TenantId};
use mt_devservers::Postgres;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{Catalog, CatalogLocation};

/// How many do the same thing at once.
const AT_ONCE: usize = 8;

/// A place for a catalog that ends with the test.
pub(super) enum Place {
    File(tempfile::TempDir),
    Server(Box<Postgres>),
}

impl Place {
    pub(super) fn file() -> Self {
        Self::File(tempfile::tempdir().unwrap())
    }

    /// In a database that orders texts by a language's rules, as most do.
    pub(super) async fn server() -> Self {
        let server = Postgres::start().await.unwrap();
        let sql =
            "CREATE DATABASE catalog TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'";
        execute(&server.url(), sql).await;
        Self::Server(Box::new(server))
    }

    pub(super) fn location(&self) -> CatalogLocation {
        match self {
            Self::File(folder) => CatalogLocation::file(folder.path().join("in/control.db")),
            Self::Server(server) => url_of(server, "catalog").parse().unwrap(),
        }
    }

    /// As one more process would.
    pub(super) async fn open(&self) -> Catalog {
        self.location().open().await.unwrap()
    }
}

pub(super) fn url_of(server: &Postgres, database: &str) -> String {
    let url = server.url();
    format!("{}/{database}", url.rsplit_once('/').unwrap().0)
}

pub(super) async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    connection.close().await.unwrap();
}

pub(super) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

/// Does the same in many processes at once.
pub(super) async fn race<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    place: &Place,
    act: impl Fn(Catalog) -> F,
) -> Vec<T> {
    let catalogs = join_all((0..AT_ONCE).map(|_| place.open())).await;
    let barrier = Arc::new(tokio::sync::Barrier::new(AT_ONCE));
    let tasks = catalogs.into_iter().map(|catalog| {
        let (act, barrier) = (act(catalog.clone()), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            let done = act.await;
            catalog.close().await.unwrap();
            done
        })
    });
    join_all(tasks).await.into_iter().collect::<Result<_, _>>().unwrap()
}

/// How many of them did it; the others' errors.
pub(super) fn outcomes<T>(all: Vec<Result<T>>) -> (usize, Vec<mt_core::Error>) {
    let (mut done, mut refused) = (0, Vec::new());
    for one in all {
        match one {
            Ok(_) => done += 1,
            Err(error) => refused.push(error),
        }
    }
    (done, refused)
}
