//! One request and its answer, and when it is repeated.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::Retryable as _;
use mt_core::Secret;
use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use url::Url;

use super::{
    ApiLimits,
    envelope::{self, Success},
    error::{Action, Cause, Error},
    refusal::Why,
};
use crate::budget::{Budget, Lane, Permit};

/// Sends requests within the token's budget.
#[derive(Clone)]
pub(super) struct Transport {
    pub(super) http: Client,
    pub(super) token: Secret,
    pub(super) limits: ApiLimits,
    budget: Arc<Budget>,
}

/// One operation: for whom, until when, and whether some request of it was not answered.
pub(super) struct Call {
    action: Action,
    lane: Lane,
    /// The id of the database, which takes only so many requests at once.
    database: Option<String>,
    deadline: Instant,
    line: Line,
    is_unclear: AtomicBool,
}

/// How long a call stood in line, and how long it may.
struct Line {
    patience: Duration,
    stood: std::sync::Mutex<Duration>,
}

impl Line {
    fn stood(&self) -> Duration {
        *self.stood.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn add(&self, time: Duration) {
        *self.stood.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += time;
    }

    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.stood())
    }
}

impl Call {
    /// How long there is for requests and repetitions. What was stood in line does not count.
    pub(super) fn left(&self) -> Duration {
        (self.deadline + self.line.stood()).saturating_duration_since(Instant::now())
    }

    /// Whether a request so far may have taken effect although no answer said so.
    pub(super) fn is_unclear(&self) -> bool {
        self.is_unclear.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, cause: &Cause) {
        if !cause.is_before_effect() {
            self.is_unclear.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self, cause: Cause) -> Error {
        self.action.failed(cause)
    }

    /// The delay before the next attempt, if there is to be one.
    ///
    /// After too many requests the budget makes everybody wait, this one included; here is decided
    /// only whether it has the patience.
    pub(super) fn delay(&self, cause: &Cause, proposed: Option<Duration>) -> Option<Duration> {
        let proposed = proposed?;
        let (delay, is_bearable) = match cause.why() {
            Some(Why::Overrun(after)) => {
                (proposed, after.is_none_or(|after| after <= self.line.left()))
            }
            Some(Why::Failing(Some(after))) => (proposed.max(after), after <= self.line.patience),
            _ => (proposed, true),
        };
        let is_to_be = is_bearable && delay < self.left();
        if is_to_be {
            tracing::debug!(action = %self.action, %cause, ?delay, "trying again");
        }
        is_to_be.then_some(delay)
    }
}

/// What is asked, so that it can be asked again.
pub(super) struct Request {
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
    repeat: Repeat,
}

/// When a request may be sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Doing it twice is doing it once.
    Freely,
    /// Only when the service did not do it the first time.
    Undone,
}

impl Request {
    /// A request that changes nothing the second time.
    pub(super) const fn idempotent(method: Method, url: Url) -> Self {
        Self { method, url, body: None, repeat: Repeat::Freely }
    }

    /// A request that must not be done twice.
    pub(super) const fn once(method: Method, url: Url) -> Self {
        Self { method, url, body: None, repeat: Repeat::Undone }
    }

    /// With `body`, which is JSON.
    pub(super) fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }
}

impl Transport {
    pub(super) const fn new(
        http: Client,
        token: Secret,
        limits: ApiLimits,
        budget: Arc<Budget>,
    ) -> Self {
        Self { http, token, limits, budget }
    }

    /// The same with other limits.
    pub(super) fn with_limits(&self, limits: ApiLimits) -> Self {
        Self { limits, ..self.clone() }
    }

    pub(super) fn call(&self, action: Action, lane: &Lane, database: Option<&str>) -> Call {
        self.call_within(self.limits.deadline, action, lane, database)
    }

    pub(super) fn call_within(
        &self,
        time: Duration,
        action: Action,
        lane: &Lane,
        database: Option<&str>,
    ) -> Call {
        Call {
            action,
            lane: lane.clone(),
            database: database.map(str::to_owned),
            deadline: Instant::now() + time,
            line: Line { patience: self.limits.patience(lane), stood: std::sync::Mutex::default() },
            is_unclear: AtomicBool::new(false),
        }
    }

    /// Sends `request` until it is answered for good or the call's time is over. `read` takes what
    /// the service says to be a success, and may find that it is none.
    pub(super) async fn run<T: DeserializeOwned + Send, U: Send>(
        &self,
        call: &Call,
        request: &Request,
        read: impl Fn(Success<T>) -> Result<U, Cause> + Send + Sync,
    ) -> Result<U, Cause> {
        let attempt = async || self.attempt(call, request).await.and_then(&read);
        let answer = attempt
            .retry(self.limits.backoff())
            .sleep(sleep)
            .when(|cause| match request.repeat {
                Repeat::Freely => cause.is_transient(),
                Repeat::Undone => cause.is_transient() && cause.is_before_effect(),
            })
            .adjust(|cause, delay| call.delay(cause, delay))
            .await;
        match answer {
            Err(cause) if request.repeat == Repeat::Undone && !cause.is_before_effect() => {
                Err(Cause::Unknown(Box::new(cause)))
            }
            answer => answer,
        }
    }

    /// Sends `request` once.
    pub(super) async fn attempt<T: DeserializeOwned>(
        &self,
        call: &Call,
        request: &Request,
    ) -> Result<Success<T>, Cause> {
        let answer = self.exchange(call, request).await.and_then(|(status, retry_after, body)| {
            envelope::read(status, retry_after, &body, &self.token)
        });
        answer.inspect_err(|cause| call.note(cause))
    }

    /// Sends `request` and reads its whole answer, whatever it is.
    async fn exchange(
        &self,
        call: &Call,
        request: &Request,
    ) -> Result<(u16, Option<Duration>, Vec<u8>), Cause> {
        let began = Instant::now();
        let patience = call.line.left();
        let permit = self.budget.acquire(&call.lane, call.database.as_deref(), patience).await;
        call.line.add(began.elapsed());
        let permit = permit.map_err(Cause::NoRight)?;
        let limit = self.limits.request_timeout.min(call.left());
        if limit.is_zero() {
            return Err(Cause::Late);
        }
        let mut builder = self.http.request(request.method.clone(), request.url.clone());
        if let Some(body) = &request.body {
            let json = HeaderValue::from_static("application/json");
            builder = builder.header(CONTENT_TYPE, json).body(body.clone());
        }
        self.send(&permit, builder, limit).await
    }

    async fn send(
        &self,
        permit: &Permit,
        builder: RequestBuilder,
        limit: Duration,
    ) -> Result<(u16, Option<Duration>, Vec<u8>), Cause> {
        let builder = builder.bearer_auth(self.token.expose()).timeout(limit);
        let mut response = builder.send().await.map_err(|e| Cause::broken(e, limit))?;
        let (status, headers) = (response.status(), response.headers());
        self.budget.heed(permit, status.as_u16(), headers);
        let retry_after = mt_remote::retry_after(headers);
        let body = self.body(&mut response, limit).await;
        let body = match body {
            // The status says enough where the words are lost, except of a success.
            Err(_lost) if !status.is_success() => Vec::new(),
            body => body?,
        };
        Ok((status.as_u16(), retry_after, body))
    }

    async fn body(&self, response: &mut Response, limit: Duration) -> Result<Vec<u8>, Cause> {
        let most = self.limits.answer_bytes;
        let told = response.content_length().and_then(|length| usize::try_from(length).ok());
        let mut body = Vec::with_capacity(told.unwrap_or_default().min(most));
        while let Some(chunk) = response.chunk().await.map_err(|e| Cause::broken(e, limit))? {
            if body.len() + chunk.len() > most {
                return Err(Cause::TooLong(most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("limits", &self.limits).finish_non_exhaustive()
    }
}
