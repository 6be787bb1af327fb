//! What every front does with requests and answers, right or wrong.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::{StreamExt as _, stream};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::fault::Canned;

/// How long the first half of a torn answer has to get out.
const TEAR: Duration = Duration::from_millis(20);

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

impl From<anyhow::Error> for Closed {
    /// A client that goes away in the middle gets no answer either.
    fn from(_: anyhow::Error) -> Self {
        Self
    }
}

/// Answers requests.
pub(crate) trait Answer: Clone + Send + 'static {
    /// Answers one of them.
    fn answer(
        self,
        request: Request,
    ) -> impl Future<Output = Result<Response, Closed>> + Send + 'static;
}

/// Serves every connection, until it is dropped.
pub(crate) async fn serve(front: impl Answer, listener: TcpListener) {
    loop {
        // What fails here is one connection; the next may be fine.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(front.clone(), stream));
        }
    }
}

async fn connection(front: impl Answer, stream: TcpStream) {
    let _delayed = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        front.clone().answer(request.map(Body::new))
    });
    // Clients go when they like.
    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A request whose body was read, so that it can be looked at and sent twice.
#[derive(Clone)]
pub(crate) struct Buffered {
    pub(crate) parts: axum::http::request::Parts,
    pub(crate) body: bytes::Bytes,
}

impl Buffered {
    pub(crate) fn into_request(self) -> Request {
        Request::from_parts(self.parts, Body::from(self.body))
    }
}

pub(crate) async fn buffered(request: Request) -> anyhow::Result<Buffered> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.context("the body of the request")?;
    Ok(Buffered { parts, body })
}

/// Reads all of an answer.
pub(crate) async fn whole(answer: Response) -> anyhow::Result<(Response, bytes::Bytes)> {
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.context("the body of the answer")?;
    Ok((Response::from_parts(parts, Body::empty()), body))
}

pub(crate) fn with_json(mut answer: Response, body: &Value) -> Response {
    let body = body.to_string();
    answer.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    *answer.body_mut() = Body::from(body);
    answer
}

pub(crate) fn given(canned: Canned) -> anyhow::Result<Response> {
    let mut answer = Response::new(Body::from(canned.body));
    *answer.status_mut() = StatusCode::from_u16(canned.status).context("the status of a fault")?;
    for (name, value) in canned.headers {
        let name = HeaderName::try_from(name).context("a header of a fault")?;
        let value = HeaderValue::try_from(value).context("a header of a fault")?;
        answer.headers_mut().append(name, value);
    }
    Ok(answer)
}

/// The first half of an answer, and then the end of the connection.
pub(crate) async fn torn(answer: Response) -> Result<Response, Closed> {
    let (mut answer, body) = whole(answer).await?;
    answer.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    let half = body.slice(..body.len() / 2);
    let cut = async {
        // The half is sent only when there is a pause in the body.
        tokio::time::sleep(TEAR).await;
        Err(Closed)
    };
    let parts = stream::iter([Ok(half)]).chain(stream::once(cut));
    *answer.body_mut() = Body::from_stream(parts);
    Ok(answer)
}
