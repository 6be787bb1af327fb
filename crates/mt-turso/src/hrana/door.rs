//! Requests to one tenant's database: where to, with which token, and what an answer's status means.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use libsql_hrana::proto::{Batch, CursorReqBody, PipelineReqBody, StreamResult};
use mt_core::{Error, ErrorKind, Secret};
use mt_remote::{Endpoint, Fault};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header::CONTENT_TYPE};
use tokio::time::timeout;

use super::{
    Limits,
    encoding::{Agreed, Encoding, Message},
    fault,
    frames::Frames,
    refusal::{Said, denies_route, may_deny_route, refused},
    wire::{self, Pipeline, StreamAt},
};
use crate::NAME;

/// What opens the door: tokens, and who knows whether there is a database behind it.
#[async_trait]
pub(crate) trait Access: fmt::Debug + Send + Sync + 'static {
    /// A token for this database and nothing else.
    async fn token(&self) -> mt_core::Result<Secret>;

    /// The server refused `token`. Whether it is worth another try, with another token.
    fn refused(&self, token: &Secret) -> bool;

    /// Whether the service knows the database.
    async fn exists(&self) -> mt_core::Result<bool>;
}

/// Whether a lost answer leaves anything to wonder about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing is changed.
    Reads,
    /// Something may be.
    Writes,
}

/// Where one tenant's database is reached.
pub(crate) struct Door {
    http: Client,
    endpoint: Endpoint,
    access: Arc<dyn Access>,
    agreed: Agreed,
    limits: Limits,
}

/// What came of a pipeline.
pub(super) struct Reply {
    /// Where the stream goes on, if it does.
    pub(super) stream: Option<StreamAt>,
    pub(super) results: Vec<StreamResult>,
}

/// An answer that comes message by message.
pub(super) struct Opened {
    pub(super) stream: Option<StreamAt>,
    pub(super) frames: Frames,
}

/// Where a message goes.
struct To {
    endpoint: Endpoint,
    /// An open stream's; a new one takes what is agreed.
    encoding: Option<Encoding>,
}

impl Door {
    pub(crate) fn new(
        http: Client,
        endpoint: Endpoint,
        access: Arc<dyn Access>,
        agreed: Agreed,
        limits: Limits,
    ) -> Self {
        Self { http, endpoint, access, agreed, limits }
    }

    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Sends a pipeline. One that only reads is sent twice if need be, unless it leaves its stream
    /// open: what the first one locked would be in the second one's way.
    pub(super) async fn pipeline(
        &self,
        pipeline: Pipeline,
        effect: Effect,
    ) -> Result<Reply, Fault> {
        let (to, baton) = self.to(pipeline.stream);
        let body = PipelineReqBody { baton, requests: pipeline.requests };
        let message = Message::Pipeline(&body);
        let is_repeatable = effect == Effect::Reads && !message.is_on_stream() && message.closes();
        let mut tries_left = u32::from(is_repeatable);
        let (bytes, encoding) = loop {
            match self.whole(&to, message, effect).await {
                Err(fault) if tries_left > 0 && is_transient(&fault) => tries_left -= 1,
                read => break read?,
            }
        };
        let reply = encoding.read_pipeline(bytes, &body.requests, effect)?;
        self.understood(&to, encoding).await;
        let stream = self.stream_at(&to.endpoint, encoding, reply.baton, reply.base_url).await?;
        Ok(Reply { stream, results: reply.results })
    }

    /// Runs a batch whose answer comes message by message.
    pub(super) async fn cursor(
        &self,
        stream: Option<StreamAt>,
        batch: Batch,
        effect: Effect,
    ) -> Result<Opened, Fault> {
        let (to, baton) = self.to(stream);
        let body = CursorReqBody { baton, batch };
        let (response, encoding) = self.post(&to, Message::Cursor(&body), effect).await?;
        let chunks = pieces(response, self.limits.request, effect);
        let mut frames = Frames::new(chunks, encoding, effect);
        let head = frames.head().await?;
        self.understood(&to, encoding).await;
        let stream = self.stream_at(&to.endpoint, encoding, head.baton, head.base_url).await?;
        Ok(Opened { stream, frames })
    }

    fn to(&self, stream: Option<StreamAt>) -> (To, Option<String>) {
        match stream {
            Some(StreamAt { baton, endpoint, encoding }) => {
                (To { endpoint, encoding: Some(encoding) }, Some(baton))
            }
            None => {
                let (endpoint, encoding) = (self.endpoint.clone(), self.agreed.get());
                (To { endpoint, encoding }, None)
            }
        }
    }

    /// An answer could be read in `encoding`.
    async fn understood(&self, to: &To, encoding: Encoding) {
        match encoding {
            Encoding::Protobuf => self.agreed.confirm_protobuf(),
            Encoding::Json if to.encoding.is_none() => self.negotiate(&to.endpoint).await,
            Encoding::Json => {}
        }
    }

    /// JSON was understood where Protobuf was not: there is no such route, or the database was not
    /// there yet when Protobuf was tried. The protocol has a question that tells the two apart; as
    /// long as it is not answered, the next message finds out.
    async fn negotiate(&self, at: &Endpoint) {
        match self.version_check(at).await {
            Ok(status) if status.is_success() => self.agreed.confirm_protobuf(),
            Ok(status) if denies_route(status) => self.agreed.deny_protobuf(),
            Ok(status) => tracing::debug!(%status, "the server does not say what it speaks"),
            Err(error) => tracing::debug!(%error, "the server does not say what it speaks"),
        }
    }

    async fn version_check(&self, at: &Endpoint) -> Result<StatusCode, Fault> {
        let token = self.access.token().await?;
        let request = self
            .http
            .get(at.join([Encoding::Protobuf.root()]))
            .bearer_auth(token.expose())
            .timeout(self.limits.request);
        Ok(self.send(request, Effect::Reads).await?.status())
    }

    /// Posts a message, and reads all of its answer.
    async fn whole(
        &self,
        to: &To,
        message: Message<'_>,
        effect: Effect,
    ) -> Result<(Bytes, Encoding), Fault> {
        let (response, encoding) = self.post(to, message, effect).await?;
        let bytes = response.bytes().await.map_err(|e| fault::lost(effect, unanswered(e)))?;
        Ok((bytes, encoding))
    }

    /// Posts a message, with a new token if the server refuses the first: it looks at tokens before
    /// it does anything. While the encoding is not known, Protobuf is tried first, and then JSON:
    /// without a route for it the server has done nothing.
    async fn post(
        &self,
        to: &To,
        message: Message<'_>,
        effect: Effect,
    ) -> Result<(Response, Encoding), Fault> {
        let on_stream = message.is_on_stream();
        let (mut renewed, mut confirmed) = (false, false);
        let mut encoding = to.encoding.unwrap_or(Encoding::Protobuf);
        let mut other = to.encoding.is_none().then_some(Encoding::Json);
        let mut body = message.write(encoding)?;
        loop {
            let token = self.access.token().await?;
            let request = self
                .http
                .post(to.endpoint.join([encoding.root(), message.route()]))
                .bearer_auth(token.expose())
                .header(CONTENT_TYPE, encoding.content_type())
                .timeout(match message {
                    Message::Pipeline(_) => self.limits.request,
                    // Read piece by piece, each within the limit.
                    Message::Cursor(_) => LONG,
                })
                .body(body.clone());
            let response = self.send(request, effect).await?;
            let status = response.status();
            match status {
                StatusCode::OK => return Ok((response, encoding)),
                StatusCode::UNAUTHORIZED if !renewed && self.access.refused(&token) => {
                    renewed = true;
                    continue;
                }
                // A server that is about to have the database says this too, and so does one that
                // mislaid it for a moment.
                StatusCode::NOT_FOUND if !on_stream && !confirmed => {
                    if !self.access.exists().await? {
                        return Err(no_database());
                    }
                    confirmed = true;
                }
                status if other.is_some() && may_deny_route(status) => {}
                _ => {
                    let said = Said::read(response, self.limits.request, &token).await;
                    return Err(refused(status, &said, on_stream, effect));
                }
            }
            if let Some(other) = other.take() {
                encoding = other;
                body = message.write(encoding)?;
            }
        }
    }

    async fn send(&self, request: RequestBuilder, effect: Effect) -> Result<Response, Fault> {
        match timeout(self.limits.request, request.send()).await {
            Err(_elapsed) => Err(fault::lost(effect, timed_out(self.limits.request))),
            // Nothing was sent.
            Ok(Err(e)) if e.is_connect() => Err(unanswered(e)),
            Ok(Err(e)) => Err(fault::lost(effect, unanswered(e))),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// The stream that the server left open. One that is not followed is closed where it was opened,
    /// for it may hold a lock.
    async fn stream_at(
        &self,
        at: &Endpoint,
        encoding: Encoding,
        baton: Option<String>,
        base_url: Option<String>,
    ) -> Result<Option<StreamAt>, Fault> {
        let Some(baton) = baton else { return Ok(None) };
        match self.follow(at, base_url.as_deref()) {
            Ok(endpoint) => Ok(Some(StreamAt { baton, endpoint, encoding })),
            Err(fault) => {
                let to = To { endpoint: at.clone(), encoding: Some(encoding) };
                let body = PipelineReqBody { baton: Some(baton), requests: vec![wire::close()] };
                let closed = self.post(&to, Message::Pipeline(&body), Effect::Reads).await;
                if let Err(error) = closed {
                    tracing::debug!(error = %error, "a stream is left to the server to close");
                }
                Err(fault)
            }
        }
    }

    /// Where the server says that the stream goes on: at its own host, or at another of the same
    /// service. Anywhere else is refused, for the token would go with it.
    fn follow(&self, at: &Endpoint, base_url: Option<&str>) -> Result<Endpoint, Fault> {
        let Some(base_url) = base_url else { return Ok(at.clone()) };
        let elsewhere = || {
            Error::new(
                ErrorKind::Unavailable,
                "the server sends the stream to another service; not followed",
            )
            .with_provider(NAME)
        };
        let next = Endpoint::new(base_url).map_err(|e| elsewhere().with_source(e))?;
        if is_same_service(&self.endpoint, &next) { Ok(next) } else { Err(elsewhere().into()) }
    }
}

/// A limit for a whole answer that is read piece by piece.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Both on this machine; or the same port and scheme, and host names that differ in their first
/// label only, within a domain of more than two.
pub(crate) fn is_same_service(one: &Endpoint, other: &Endpoint) -> bool {
    if one.is_loopback() || other.is_loopback() {
        return one.is_loopback() && other.is_loopback();
    }
    let (one, other) = (one.as_url(), other.as_url());
    let same_port = one.port_or_known_default() == other.port_or_known_default();
    if one.scheme() != other.scheme() || !same_port {
        return false;
    }
    match (one.domain(), other.domain()) {
        (Some(one), Some(other)) if one == other => true,
        (Some(one), Some(other)) => match (one.split_once('.'), other.split_once('.')) {
            (Some((_, one)), Some((_, other))) => one == other && one.contains('.'),
            _ => false,
        },
        _ => false,
    }
}

fn pieces(
    response: Response,
    wait: Duration,
    effect: Effect,
) -> BoxStream<'static, Result<Bytes, Fault>> {
    let chunks = response.bytes_stream().map_err(move |e| fault::lost(effect, unanswered(e)));
    Box::pin(futures_util::stream::unfold(Box::pin(chunks), move |mut chunks| async move {
        let next = match timeout(wait, chunks.next()).await {
            Ok(next) => next?,
            Err(_elapsed) => Err(fault::lost(effect, timed_out(wait))),
        };
        Some((next, chunks))
    }))
}

fn is_transient(fault: &Fault) -> bool {
    matches!(fault, Fault::Other(error) if error.is_transient())
}

fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_provider(NAME)
}

fn unanswered(error: reqwest::Error) -> Fault {
    // The URL has the tenant's host name, which the error names already, and no secret.
    unavailable("the database's server does not answer").with_source(error).into()
}

fn timed_out(limit: Duration) -> Fault {
    unavailable(format!("the database's server did not answer within {limit:?}")).into()
}

fn no_database() -> Fault {
    Error::new(ErrorKind::TenantNotFound, "the service has no such database")
        .with_provider(NAME)
        .into()
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_at_the_same_service_only() {
        let at = |url: &str| Endpoint::new(url).unwrap();
        let home = at("https://acme-org.aws-us-east-1.turso.io");
        for (url, follows) in [
            ("https://acme-org.aws-us-east-1.turso.io", true),
            ("https://node7.aws-us-east-1.turso.io", true),
            ("https://aws-us-east-1.turso.io", false),
            ("https://acme-org.aws-us-east-1.turso.io:8443", false),
            ("https://acme-org.aws-us-east-1.turso.example", false),
            ("http://127.0.0.1:80", false),
        ] {
            assert_eq!(is_same_service(&home, &at(url)), follows, "{url}");
        }
        // Two labels are a whole service's name, not a host in it.
        assert!(!is_same_service(&at("https://turso.io"), &at("https://other.io")));
        assert!(is_same_service(&at("http://a.localhost:1"), &at("http://127.0.0.1:2")));
    }
}
