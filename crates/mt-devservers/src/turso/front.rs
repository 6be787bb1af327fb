//! The HTTP servers: what arrives is counted, and meets its fault or is served.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, header},
    response::Response,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    call::{Call, Requests},
    turso::{
        fault::{Fault, Faults},
        platform::{Platform, Wear},
    },
    wire::{Answer, Closed, buffered, given, torn, whole, with_json},
};

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

impl Answer for Front {
    async fn answer(self, request: Request) -> Result<Response, Closed> {
        self.respond(request).await
    }
}

impl Front {
    async fn respond(self, request: Request) -> Result<Response, Closed> {
        let request = match self.kind {
            Kind::Api => buffered(request).await?.into_request(),
            Kind::Data => request,
        };
        let (call, request) = self.call(request).await?;
        let _present = self.requests().add(&call);
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
