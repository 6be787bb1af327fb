//! Connections for the `libsql` crate, which brings none that could be used: its own TLS is of
//! rustls 0.22.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use hyper_014::{
    Uri,
    client::connect::{Connected, Connection},
    service::Service,
};
use mt_remote::{Endpoint, lookup};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig,
        pki_types::{InvalidDnsNameError, ServerName},
    },
};

use crate::hrana::is_same_service;

/// Connects to the hosts of one service.
#[derive(Clone)]
pub(super) struct Connector {
    service: Endpoint,
    tls: TlsConnector,
    timeout: Duration,
}

/// Why there is no connection. The `libsql` crate makes text of it at once.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the server sends the stream to another service; not followed")]
    Elsewhere,
    #[error("the server sends the stream to a place that cannot be used")]
    Unusable(#[source] mt_core::Error),
    #[error("the host's name is none that a certificate could be for")]
    Name(#[from] InvalidDnsNameError),
    #[error("no connection within {} ms", .0.as_millis())]
    Slow(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Connector {
    pub(super) fn new(service: Endpoint, tls: Arc<ClientConfig>, timeout: Duration) -> Self {
        Self { service, tls: tls.into(), timeout }
    }

    /// The token goes where the connection leads.
    fn check(&self, uri: &Uri) -> Result<Endpoint, ConnectError> {
        let endpoint = Endpoint::new(&uri.to_string()).map_err(ConnectError::Unusable)?;
        if is_same_service(&self.service, &endpoint) {
            Ok(endpoint)
        } else {
            Err(ConnectError::Elsewhere)
        }
    }

    async fn connect(self, uri: Uri) -> Result<Socket, ConnectError> {
        let endpoint = self.check(&uri)?;
        let host = endpoint.as_url().host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = endpoint.as_url().port_or_known_default().unwrap_or_default();
        let addresses = lookup(host, port).await?;
        let tcp = TcpStream::connect(&*addresses).await?;
        // A request is one write, and an answer is waited for.
        tcp.set_nodelay(true)?;
        if endpoint.as_url().scheme() == "http" {
            return Ok(Socket(Box::pin(tcp)));
        }
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Socket(Box::pin(self.tls.connect(name, tcp).await?)))
    }
}

impl Service<Uri> for Connector {
    type Response = Socket;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Socket, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        async move {
            let limit = connector.timeout;
            match timeout(limit, connector.connect(uri)).await {
                Ok(connected) => connected,
                Err(_elapsed) => Err(ConnectError::Slow(limit)),
            }
        }
        .boxed()
    }
}

/// A connection, with or without TLS.
pub(super) struct Socket(Pin<Box<dyn Io>>);

trait Io: AsyncRead + AsyncWrite + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Send + Sync> Io for T {}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
