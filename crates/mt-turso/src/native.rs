//! The vendor's own client of one tenant's database.

mod connector;

use std::sync::{Arc, OnceLock};

use libsql::Builder;
use mt_core::{Error, ErrorKind, Result, Secret, TenantId};
use mt_remote::tls_config;
use tokio_rustls::rustls::ClientConfig;

use self::connector::Connector;
use crate::{
    NAME, TursoFactory,
    factory::told,
    place::Place,
    platform::{Authorization, Expiration, TokenScope},
};

impl TursoFactory {
    /// The vendor's own client, of the `libsql` crate, for the tenant's database: for what is
    /// written for it already. With the feature `native-client`.
    ///
    /// The database is known to be the tenant's when this returns. From then on nothing of this
    /// library stands between the client and the database, and it is the caller's to care for:
    ///
    /// - **No gate.** It goes on when handles are revoked, and `deprovision` and `restore` do not
    ///   wait for it. What keeps it out is the service: a database that is blocked or gone. No
    ///   statement is refused before it is sent.
    /// - **One token**, of this database only, also with
    ///   [`group_tokens`](crate::TursoConfig::group_tokens). It is never renewed: when
    ///   [`token_lifetime_s`](crate::TursoConfig::token_lifetime_s) is over, every call fails with
    ///   401, and another client is to be made; so too after a restore, which makes another
    ///   database.
    /// - **Streams that expire.** Ten seconds after a [`query`](libsql::Connection::query) every
    ///   later call on its connection fails with `STREAM_EXPIRED`, an `execute` as well, until
    ///   [`reset`](libsql::Connection::reset) is called: call it before each use
    ///   (<https://github.com/tursodatabase/libsql/issues/985>).
    /// - **No timeouts** but the one for a connection,
    ///   [`connect_timeout_ms`](crate::TursoConfig::connect_timeout_ms): put one around each call.
    /// - **Connections.** Each [`connect`](libsql::Database::connect) has sockets of its own, and
    ///   clones of a connection share one stream, its transaction included. Keep connections, and
    ///   use each for one thing at a time.
    ///
    /// TLS is this library's: the `libsql` crate's own is of a rustls with known faults. The token
    /// goes to the database's host and to others of the same service that it names, nowhere else.
    ///
    /// Cost: one request to the platform API, which mints the token, and one to the database.
    ///
    /// # Errors
    /// As [`get_adapters`](mt_core::DatabaseFactory::get_adapters); `Config`: the system's
    /// certificates cannot be used.
    pub async fn native_client(&self, tenant: &TenantId) -> Result<libsql::Database> {
        told(tenant, self.make_native_client(tenant).await)
    }

    async fn make_native_client(&self, tenant: &TenantId) -> Result<libsql::Database> {
        let _lock = self.locks.shared(tenant, self.config.drain_timeout()).await?;
        let place = self.locate(tenant).await?;
        // Before the look: what may take the name after it, the token does not open.
        let token = self.mint_native(&place).await?;
        let (stamp, _) = self.look_at(&place).await?.stamped(tenant)?;
        stamp.check(self.context.deployment, tenant, place.generation)?;

        let endpoint = self.platform.data_endpoint(&place.hostname)?;
        let url = endpoint.as_url().as_str().to_owned();
        let connector = Connector::new(endpoint, tls()?, self.config.connect_timeout());
        let built = Builder::new_remote(url, token.expose().to_owned()).connector(connector);
        built.build().await.map_err(|e| {
            Error::new(ErrorKind::Internal, "the client of the `libsql` crate cannot be made")
                .with_source(e)
        })
    }

    async fn mint_native(&self, place: &Place) -> Result<Secret> {
        let minted = self.platform.mint_token(
            TokenScope::Database(place.name.as_str()),
            Authorization::FullAccess,
            Expiration::After(self.config.token_lifetime()),
        );
        self.forgetting(place, minted.await)
    }
}

/// The TLS of all clients of the process. To make it takes tens of milliseconds: the system's
/// certificates are read.
fn tls() -> Result<Arc<ClientConfig>> {
    static TLS: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(made) = TLS.get() {
        return Ok(Arc::clone(made));
    }
    let mut config = tls_config().map_err(|e| e.with_provider(NAME))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::clone(TLS.get_or_init(|| Arc::new(config))))
}
