use http::{HeaderName, header, request::Parts};
use mt_core::{Error, ErrorKind, Result, TenantId};

use crate::Problem;

/// Finds the tenant that a request names: in its path, in verified claims, wherever the
/// application puts it.
///
/// Any `Fn(&Parts) -> Result<Option<TenantId>, Problem>` is one. It decides nothing about the
/// tenant: whether it exists and is served is the source's to say.
pub trait TenantResolver: Send + Sync + 'static {
    /// The tenant that the request names; `None`: it names none in this resolver's place.
    ///
    /// # Errors
    /// The answer to the client. `TenantId::new(…)?` makes it a 400.
    fn resolve(&self, parts: &Parts) -> Result<Option<TenantId>, Problem>;
}

impl<F> TenantResolver for F
where
    F: Fn(&Parts) -> Result<Option<TenantId>, Problem> + Send + Sync + 'static,
{
    fn resolve(&self, parts: &Parts) -> Result<Option<TenantId>, Problem> {
        self(parts)
    }
}

/// The value of a header is the tenant's id.
#[derive(Debug)]
pub(crate) struct Header(pub(crate) HeaderName);

impl TenantResolver for Header {
    fn resolve(&self, parts: &Parts) -> Result<Option<TenantId>, Problem> {
        only_value(parts, &self.0)?.map(|id| Ok(TenantId::new(id)?)).transpose()
    }
}

/// The one label in front of a domain is the tenant's id.
#[derive(Debug)]
pub(crate) struct Subdomain {
    /// Folded, with the dot in front.
    suffix: String,
}

impl Subdomain {
    pub(crate) fn of(domain: &str) -> Result<Self> {
        let domain = to_host(domain);
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if domain.split('.').all(is_label) {
            Ok(Self { suffix: format!(".{domain}") })
        } else {
            Err(Error::new(
                ErrorKind::Config,
                format!("`{}` is no domain that tenants can be under", domain.escape_default()),
            ))
        }
    }
}

impl TenantResolver for Subdomain {
    fn resolve(&self, parts: &Parts) -> Result<Option<TenantId>, Problem> {
        // HTTP/2 and absolute-form requests carry the authority in the URI, HTTP/1.1 in `Host`;
        // with both, they must say the same (RFC 9113, 8.3.1).
        let authority = parts.uri.authority().map(|authority| to_host(authority.as_str()));
        let host = only_value(parts, &header::HOST)?.map(to_host);
        let host = match (authority, host) {
            (Some(authority), Some(host)) if authority != host => return Err(Problem::ambiguous()),
            (authority, host) => authority.or(host),
        };
        let label = host.as_deref().and_then(|host| host.strip_suffix(&self.suffix));
        // What has a further dot is somebody's host, but no tenant's.
        match label {
            Some(label) if !label.contains('.') => Ok(Some(TenantId::new(label)?)),
            _ => Ok(None),
        }
    }
}

/// The host of an authority, without the port and the root's dot, in small letters.
fn to_host(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The value of a header that may stand once. Proxies and applications differ on which of two
/// counts, so two are refused.
fn only_value<'a>(parts: &'a Parts, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = parts.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.to_str().map_err(|e| {
            Error::new(ErrorKind::InvalidTenant, format!("header {name} is no text")).with_source(e)
        })?)),
        (Some(_), Some(_)) => Err(Problem::ambiguous()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_domain_is_a_fault_of_the_settings() {
        for domain in ["", ".", ".example.com", "a..b", "example.com/x", "*.example.com", "[::1]"] {
            assert_eq!(Subdomain::of(domain).unwrap_err().kind(), ErrorKind::Config, "{domain:?}");
        }
        for domain in ["localhost", "example.com", "EXAMPLE.com.", "example.com:8080"] {
            assert!(Subdomain::of(domain).is_ok(), "{domain:?}");
        }
    }

    #[test]
    fn ports_case_and_the_root_dot_do_not_tell_hosts_apart() {
        for host in ["a.example.com", "A.Example.Com", "a.example.com.", "a.example.com.:80"] {
            assert_eq!(to_host(host), "a.example.com");
        }
        assert_eq!(to_host("[::1]:8080"), "[::1]");
        assert_eq!(to_host("[::1]"), "[::1]");
        assert_eq!(to_host("a.example.com:x"), "a.example.com:x");
    }
}
