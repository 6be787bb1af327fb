//! The HTTP servers: what arrives is counted, and meets its fault or is served.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::{StreamExt as _, stream};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::turso::{
    call::{Call, Requests},
    fault::{Canned, Fault, Faults},
    platform::{Platform, Wear},
};

/// How long the first half of a torn answer has to get out.
const TEAR: Duration = Duration::from_millis(20);

/// One plane: the API or the data.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    pub(crate) kind: Kind,
    pub(crate) router: Router,
    pub(crate) platform: Arc<Platform>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Api,
    Data,
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Closed;

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

impl Front {
    /// Serves every connection, until it is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        loop {
            // What fails here is one connection; the next may be fine.
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().connection(stream));
            }
        }
    }

    async fn connection(self, stream: TcpStream) {
        let _delayed = stream.set_nodelay(true);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            self.clone().answer(request.map(Body::new))
        });
        // Clients go when they like.
        let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self, request: Request) -> Result<Response, Closed> {
        let request = match self.kind {
            Kind::Api => buffered(request).await?.into_request(),
            Kind::Data => request,
        };
        let (call, request) = self.call(request).await?;
        self.requests().add(&call);
        match self.faults().strike(&call) {
            Some(fault) => self.suffer(fault, &call, request).await,
            None => self.serve_one(request).await,
        }
    }

    fn requests(&self) -> &Requests {
        match self.kind {
            Kind::Api => &self.platform.api_requests,
            Kind::Data => &self.platform.requests,
        }
    }

    fn faults(&self) -> &Faults {
        match self.kind {
            Kind::Api => &self.platform.api_faults,
            Kind::Data => &self.platform.data_faults,
        }
    }

    /// What the request is, and the request.
    async fn call(&self, request: Request) -> Result<(Call, Request), Closed> {
        let path = request.uri().path().to_owned();
        if self.kind == Kind::Data {
            let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
            let database = host.and_then(|host| self.platform.database_of(host));
            let call = Call::new(request.method(), &path, database.map(str::to_owned));
            return Ok((call, request));
        }
        let mut segments = path.split('/').skip_while(|segment| *segment != "databases").skip(1);
        if let Some(name) = segments.next() {
            return Ok((Call::new(request.method(), &path, Some(name.to_owned())), request));
        }
        // To create one is a POST to all of them, its name is in the body.
        let whole = buffered(request).await?;
        let body: Option<Value> = serde_json::from_slice(&whole.body).ok();
        let name = body.and_then(|body| Some(body.get("name")?.as_str()?.to_owned()));
        let name = name.filter(|_| path.ends_with("/databases"));
        Ok((Call::new(&whole.parts.method, &path, name), whole.into_request()))
    }

    /// On the API a client that goes away stops nothing, as it stops nothing of the service.
    async fn serve_one(&self, request: Request) -> Result<Response, Closed> {
        match self.kind {
            Kind::Api => self.serve_to_the_end(request).await,
            Kind::Data => {
                self.router.clone().oneshot(request).await.map_err(|never| match never {})
            }
        }
    }

    async fn serve_to_the_end(&self, request: Request) -> Result<Response, Closed> {
        let answer = tokio::spawn(self.router.clone().oneshot(request)).await;
        let answer = answer.context("the handler panicked")?;
        answer.map_err(|never| match never {})
    }

    async fn suffer(
        &self,
        fault: Fault,
        call: &Call,
        request: Request,
    ) -> Result<Response, Closed> {
        match fault {
            Fault::Answer(canned) => Ok(given(canned)?),
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                self.serve_one(request).await
            }
            Fault::Late(time) => {
                let answer = self.serve_to_the_end(request).await?;
                tokio::time::sleep(time).await;
                Ok(answer)
            }
            Fault::Torn => torn(self.serve_to_the_end(request).await?).await,
            Fault::Dropped => {
                let answer = self.serve_to_the_end(request).await?;
                whole(answer).await?;
                Err(Closed)
            }
            Fault::Refused => Err(Closed),
            Fault::WrongJson => {
                let answer = self.serve_to_the_end(request).await?;
                Ok(with_json(answer, &json!([{"unexpected": true}])))
            }
            Fault::Repeated => {
                let request = buffered(request).await?;
                whole(self.serve_to_the_end(request.clone().into_request()).await?).await?;
                self.serve_to_the_end(request.into_request()).await
            }
            Fault::StaleToken => self.with_worn_token(request, call, Wear::Stale).await,
            Fault::ExpiredToken => self.with_worn_token(request, call, Wear::Expired).await,
        }
    }

    async fn with_worn_token(
        &self,
        mut request: Request,
        call: &Call,
        wear: Wear,
    ) -> Result<Response, Closed> {
        let database = call.database.as_deref();
        if self.kind == Kind::Data {
            let held = request.headers().get(header::AUTHORIZATION);
            let held = held.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            if let Some(held) = held {
                let worn = format!("Bearer {}", self.platform.worn(held, database, wear)?);
                let worn = HeaderValue::try_from(worn).context("a token in a header")?;
                request.headers_mut().insert(header::AUTHORIZATION, worn);
            }
            return self.serve_one(request).await;
        }
        let answer = self.serve_to_the_end(request).await?;
        let (answer, body) = whole(answer).await?;
        let minted: Option<Value> = serde_json::from_slice(&body).ok();
        match minted.as_ref().and_then(|minted| minted["jwt"].as_str()) {
            Some(jwt) => {
                let worn = self.platform.worn(jwt, database, wear)?;
                Ok(with_json(answer, &json!({"jwt": worn})))
            }
            None => Ok(answer.map(|_| Body::from(body))),
        }
    }
}

/// A request whose body was read, so that it can be looked at and sent twice.
#[derive(Clone)]
struct Buffered {
    parts: axum::http::request::Parts,
    body: bytes::Bytes,
}

impl Buffered {
    fn into_request(self) -> Request {
        Request::from_parts(self.parts, Body::from(self.body))
    }
}

async fn buffered(request: Request) -> anyhow::Result<Buffered> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.context("the body of the request")?;
    Ok(Buffered { parts, body })
}

/// Reads all of an answer.
async fn whole(answer: Response) -> anyhow::Result<(Response, bytes::Bytes)> {
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.context("the body of the answer")?;
    Ok((Response::from_parts(parts, Body::empty()), body))
}

fn with_json(mut answer: Response, body: &Value) -> Response {
    let body = body.to_string();
    answer.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    *answer.body_mut() = Body::from(body);
    answer
}

fn given(canned: Canned) -> anyhow::Result<Response> {
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
async fn torn(answer: Response) -> Result<Response, Closed> {
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
