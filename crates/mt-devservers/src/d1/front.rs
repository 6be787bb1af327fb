//! The HTTP server before workerd: what arrives is counted, has to be within the rate limit, and
//! meets its fault or is passed on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    Workerd,
    call::{Call, Requests},
    d1::{Fault, Faults, Kind, Rate, envelope},
    fault::Canned,
    wire::{Answer, Buffered, Closed, buffered, given, torn, with_json},
};

/// How long workerd may take for an answer. The service gives up after 30 seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the front and the account share. It holds the token, so it cannot be printed.
pub(crate) struct Site {
    pub(crate) account: String,
    pub(crate) token: String,
    pub(crate) workerd: Workerd,
    pub(crate) client: Client,
    pub(crate) faults: Faults,
    pub(crate) requests: Requests,
    pub(crate) rate: Rate,
    /// The names of databases by uuid, as far as they were seen.
    pub(crate) names: Mutex<HashMap<String, String>>,
}

impl Site {
    fn names(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) site: Arc<Site>,
}

impl Answer for Front {
    async fn answer(self, request: Request) -> Result<Response, Closed> {
        let request = buffered(request).await?;
        let (kind, call) = self.call(&request);
        let _present = self.site.requests.add(&call);
        // The bucket is another service.
        if kind == Kind::File {
            return self.meet(kind, &call, request).await;
        }
        let told = self.site.rate.take();
        let mut answer = match told.refusal {
            Some(refusal) => given(refusal)?,
            None => self.meet(kind, &call, request).await?,
        };
        for (name, value) in told.headers {
            let name = HeaderName::try_from(name).context("a header of the rate limit")?;
            let value = HeaderValue::try_from(value).context("a header of the rate limit")?;
            answer.headers_mut().insert(name, value);
        }
        Ok(answer)
    }
}

impl Front {
    /// What the request is.
    fn call(&self, request: &Buffered) -> (Kind, Call) {
        let Buffered { parts, body } = request;
        let path = parts.uri.path();
        let (kind, database) = Kind::of(&parts.method, path);
        let id = database.map(str::to_ascii_lowercase);
        let known = id.as_ref().and_then(|id| self.site.names().get(id).cloned());
        let name = match kind {
            Kind::Create => {
                let wish: Option<Value> = serde_json::from_slice(body).ok();
                wish.and_then(|wish| Some(wish.get("name")?.as_str()?.to_owned()))
            }
            _ => known.or_else(|| database.map(str::to_owned)),
        };
        let id = id.filter(|id| name.as_ref() != Some(id));
        let call = Call::new(&parts.method, path, name);
        (kind, Call { id, kind: Some(kind.as_str()), ..call })
    }

    async fn meet(&self, kind: Kind, call: &Call, request: Buffered) -> Result<Response, Closed> {
        match self.site.faults.strike(call) {
            Some(fault) => self.suffer(fault, kind, request).await,
            None => self.serve_to_the_end(kind, request).await,
        }
    }

    async fn suffer(
        &self,
        fault: Fault,
        kind: Kind,
        request: Buffered,
    ) -> Result<Response, Closed> {
        match fault {
            Fault::Answer(canned) => Ok(given(canned)?),
            Fault::Instead(canned) => {
                self.serve_to_the_end(kind, request).await?;
                Ok(given(canned)?)
            }
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                self.serve_to_the_end(kind, request).await
            }
            Fault::Late(time) => {
                let answer = self.serve_to_the_end(kind, request).await?;
                tokio::time::sleep(time).await;
                Ok(answer)
            }
            Fault::Torn => torn(self.serve_to_the_end(kind, request).await?).await,
            Fault::Dropped => {
                self.serve_to_the_end(kind, request).await?;
                Err(Closed)
            }
            Fault::Refused => Err(Closed),
            Fault::WrongJson => {
                let answer = self.serve_to_the_end(kind, request).await?;
                Ok(with_json(answer, &json!([{"unexpected": true}])))
            }
            Fault::Repeated => {
                self.serve_to_the_end(kind, request.clone()).await?;
                self.serve_to_the_end(kind, request).await
            }
            Fault::FailedResult(index, message) => {
                Ok(given(envelope::failed_result(statements(&request), index, &message))?)
            }
            Fault::Hidden => Ok(given(hidden(kind))?),
        }
    }

    /// A client that goes away stops nothing, as it stops nothing of the service.
    async fn serve_to_the_end(&self, kind: Kind, request: Buffered) -> Result<Response, Closed> {
        let front = self.clone();
        let answer = tokio::spawn(async move { front.pass_on(kind, request).await }).await;
        Ok(answer.context("the front panicked")??)
    }

    /// Lets workerd answer. While it is down nobody can be reached, and so the client is told by
    /// the end of the connection.
    async fn pass_on(&self, kind: Kind, request: Buffered) -> anyhow::Result<Response> {
        let Buffered { parts, body } = request;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("http://127.0.0.1:{}{path}", self.site.workerd.port());
        let passed = self.site.client.request(parts.method, url).timeout(PATIENCE);
        // The host is passed on too: signed addresses are to lead to us.
        let answer = passed.headers(parts.headers).body(body).send().await?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
            response.headers_mut().remove(name);
        }
        let body = answer.bytes().await?;
        if matches!(kind, Kind::Create | Kind::Get) {
            self.learn(&body);
        }
        *response.body_mut() = Body::from(body);
        Ok(response)
    }

    /// Learns the name of a database from an answer.
    fn learn(&self, body: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Value>(body) else { return };
        let of = |key: &str| answer["result"][key].as_str().map(str::to_owned);
        if let (Some(id), Some(name)) = (of("uuid"), of("name")) {
            self.site.names().insert(id, name);
        }
    }
}

/// How many statements a request has.
fn statements(request: &Buffered) -> usize {
    let body: Option<Value> = serde_json::from_slice(&request.body).ok();
    body.and_then(|body| Some(body.get("batch")?.as_array()?.len())).unwrap_or(1)
}

fn hidden(kind: Kind) -> Canned {
    match kind {
        Kind::List => envelope::empty_list(),
        _ => envelope::error(404, 7404, "The database could not be found"),
    }
}
