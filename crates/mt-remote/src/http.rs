//! The HTTP client that all tenants of a factory share.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use mt_core::{Error, ErrorKind, Result};
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect,
};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use url::{Host, Url};

/// How long to wait for whom.
#[derive(Clone, Copy, Debug)]
pub struct HttpSettings {
    /// For a connection, TLS included.
    pub connect_timeout: Duration,
    /// For a whole request, unless it says otherwise.
    pub timeout: Duration,
}

/// How long a connection that nobody uses is kept. Every tenant is a host of its own, so what is
/// kept for longer than a burst of requests adds up to a socket per tenant.
const IDLE: Duration = Duration::from_secs(10);
/// How many connections that nobody uses are kept for one host, which is one tenant. A burst may
/// open more.
const IDLE_PER_HOST: usize = 8;

/// Makes a client: TLS by [`tls_config`], names by [`lookup`], no redirect followed, no proxy.
///
/// Connections are kept for the next request for 10 seconds, 8 of each host at most.
///
/// # Errors
/// `Config`: the system's certificates cannot be used.
pub fn http_client(settings: HttpSettings) -> Result<Client> {
    Client::builder()
        .tls_backend_preconfigured(tls_config()?)
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .redirect(redirect::Policy::none())
        .dns_resolver(Loopback)
        .build()
        .map_err(|e| Error::new(ErrorKind::Config, "no HTTP client can be made").with_source(e))
}

/// The TLS of every connection: rustls with ring and the system's roots. Reads the system's
/// certificates, so it is made once and shared.
///
/// # Errors
/// `Config`: the system's certificates cannot be used.
pub fn tls_config() -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map(|builder| builder.with_no_client_auth())
        .map_err(|e| {
            Error::new(ErrorKind::Config, "the system's certificates cannot be used").with_source(e)
        })
}

/// The addresses of `host`. Names under `localhost` are the loopback address, whatever a resolver
/// says (<https://www.rfc-editor.org/rfc/rfc6761#section-6.3>).
///
/// # Errors
/// The system's resolver knows no such host, or does not answer.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if is_localhost(host) {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]);
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// [`lookup`] for the client.
#[derive(Debug)]
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = lookup(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Where requests with credentials may go: by https anywhere, by http to this machine only.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Checks a base URL.
    ///
    /// # Errors
    /// `Config`: no URL of http or https, plain http to another machine, or one that carries
    /// credentials, a query or a fragment.
    pub fn new(url: &str) -> Result<Self> {
        let refused = |why: &str| Error::new(ErrorKind::Config, format!("the URL {why}"));
        let url = Url::parse(url).map_err(|e| refused("cannot be read").with_source(e))?;
        let loopback = is_loopback(&url);
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err(refused("is plain http to another machine; expected https")),
            _ => return Err(refused("is neither https nor http")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("carries credentials; give them in settings of their own"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("carries a query or a fragment"));
        }
        Ok(Self(url))
    }

    /// The URL of `segments` under it, each percent-encoded.
    pub fn join<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The URL itself.
    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.0)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

/// How long a server asks to be left alone: seconds or a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Whether an answer says that it is JSON, which a gateway's error page does not.
pub fn ensure_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for url in [
            "https://api.example.com/v1",
            "http://127.0.0.1:8080",
            "http://[::1]:1",
            "http://a.localhost:80",
        ] {
            assert!(Endpoint::new(url).is_ok(), "{url}");
        }
        for url in [
            "http://example.com",
            "http://localhost.example.com",
            "ftp://localhost",
            "https://u:p@example.com",
            "https://example.com?token=x",
            "example.com",
        ] {
            let error = Endpoint::new(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!error.to_chain().contains("token=x"), "{error}");
        }
    }

    #[test]
    fn segments_cannot_climb() {
        let base = Endpoint::new("https://example.com/v1/").unwrap();
        assert_eq!(base.join(["a b", "../c"]).as_str(), "https://example.com/v1/a%20b/..%2Fc");
    }

    #[test]
    fn a_server_may_ask_in_seconds_or_by_date() {
        let header = |text: String| HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        assert_eq!(retry_after(&header("7".into())), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!(retry_after(&header(date)).unwrap() > Duration::from_secs(50));
        assert_eq!(retry_after(&header("soon".into())), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_client_can_be_made() {
        let seconds = Duration::from_secs(1);
        http_client(HttpSettings { connect_timeout: seconds, timeout: seconds }).unwrap();
    }
}
