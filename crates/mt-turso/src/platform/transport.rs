//! One request and its answer, and when it is repeated.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::Retryable as _;
use mt_core::Secret;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout_at},
};
use url::Url;

use super::{
    PlatformLimits,
    error::{Action, Cause, Error},
    refusal,
};
use crate::excerpt::excerpt;

/// The longest answer that is read: some ten thousand databases on one page.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The longest that all requests wait because one was told to: a bogus `Retry-After` must not
/// stop the client for a day.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Sends requests to the control plane, a few at a time.
pub(super) struct Transport {
    pub(super) http: Client,
    token: Secret,
    pub(super) limits: PlatformLimits,
    places: Semaphore,
    paused_until: Mutex<Option<Instant>>,
}

/// One operation: what it does, until when, and whether some request of it was not answered.
pub(super) struct Call {
    action: Action,
    deadline: Instant,
    is_unclear: AtomicBool,
}

impl Call {
    pub(super) fn new(action: Action, time: Duration) -> Self {
        Self { action, deadline: Instant::now() + time, is_unclear: AtomicBool::new(false) }
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
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
    pub(super) fn delay(
        &self,
        cause: &Cause,
        proposed: Option<Duration>,
        longest_wait: Duration,
    ) -> Option<Duration> {
        let asked = cause.retry_after().unwrap_or_default();
        let delay = proposed?.max(asked);
        let is_bearable = asked <= longest_wait && delay < self.left();
        if is_bearable {
            tracing::debug!(action = %self.action, %cause, ?delay, "trying again");
        }
        is_bearable.then_some(delay)
    }
}

/// What is asked, so that it can be asked again.
pub(super) struct Request {
    method: Method,
    url: Url,
    body: Option<Value>,
    repeat: Repeat,
    may_be_empty: bool,
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
    fn new(method: Method, url: Url, repeat: Repeat) -> Self {
        Self { method, url, body: None, repeat, may_be_empty: false }
    }

    /// A request that changes nothing the second time.
    pub(super) fn idempotent(method: Method, url: Url) -> Self {
        Self::new(method, url, Repeat::Freely)
    }

    /// A request that must not be done twice.
    pub(super) fn once(method: Method, url: Url) -> Self {
        Self::new(method, url, Repeat::Undone)
    }

    pub(super) fn with_body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Says that success may have an empty body.
    pub(super) const fn with_empty_answer(mut self) -> Self {
        self.may_be_empty = true;
        self
    }
}

impl Transport {
    pub(super) fn new(http: Client, token: Secret, limits: PlatformLimits) -> Self {
        let places = Semaphore::new(limits.concurrency);
        Self { http, token, limits, places, paused_until: Mutex::default() }
    }

    pub(super) fn call(&self, action: Action) -> Call {
        Call::new(action, self.limits.deadline)
    }

    /// Sends `request` until it is answered for good or the call's time is over.
    pub(super) async fn run(&self, call: &Call, request: &Request) -> Result<Vec<u8>, Cause> {
        let attempt = || self.attempt(call, request);
        let answer = attempt
            .retry(self.limits.backoff())
            .sleep(sleep)
            .when(|cause| match request.repeat {
                Repeat::Freely => cause.is_transient(),
                Repeat::Undone => cause.is_transient() && cause.is_before_effect(),
            })
            .adjust(|cause, delay| call.delay(cause, delay, self.limits.longest_wait))
            .await;
        match answer {
            Err(cause) if request.repeat == Repeat::Undone && !cause.is_before_effect() => {
                Err(Cause::Unknown(Box::new(cause)))
            }
            answer => answer,
        }
    }

    /// As [`run`](Self::run), with the answer read.
    pub(super) async fn fetch<T: DeserializeOwned>(
        &self,
        call: &Call,
        request: &Request,
    ) -> Result<T, Cause> {
        self.read(&self.run(call, request).await?)
    }

    pub(super) fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Cause> {
        // The error of serde quotes values, and may so quote a token.
        serde_json::from_slice(body)
            .map_err(|e| Cause::Malformed(excerpt(e.to_string().as_bytes(), &self.token)))
    }

    /// Sends `request` once. The answer of a success is JSON, or empty where it may be.
    pub(super) async fn attempt(&self, call: &Call, request: &Request) -> Result<Vec<u8>, Cause> {
        let _place = self.place(call).await?;
        let limit = self.limits.request_timeout.min(call.left());
        let mut builder = self.http.request(request.method.clone(), request.url.clone());
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        let answer = exchange(builder, &self.token, limit).await.and_then(|body| {
            let is_whole = (body.is_empty() && request.may_be_empty) || is_json(&body);
            if is_whole { Ok(body) } else { Err(not_json(&body, &self.token)) }
        });
        if let Err(cause) = &answer {
            if request.method == Method::DELETE {
                call.note(cause);
            }
            self.heed(cause);
        }
        answer
    }

    /// A place among the requests at once, outside any pause.
    async fn place(&self, call: &Call) -> Result<SemaphorePermit<'_>, Cause> {
        loop {
            let left = self.pause_left();
            if left > self.limits.longest_wait || left > call.left() {
                return Err(Cause::Paused(left));
            }
            sleep(left).await;
            let acquired = timeout_at(call.deadline, self.places.acquire()).await;
            let Ok(Ok(place)) = acquired else { return Err(Cause::Crowded) };
            if call.left().is_zero() {
                return Err(Cause::Crowded);
            }
            // Somebody may have been told to wait while this one stood in line.
            if self.pause_left().is_zero() {
                return Ok(place);
            }
        }
    }

    /// Makes everybody wait when one request was too many.
    fn heed(&self, cause: &Cause) {
        let Some(refusal::Why::Overrun(Some(after))) = cause.why() else { return };
        let until = Instant::now() + after.min(MAX_PAUSE);
        let mut paused = self.paused_until();
        *paused = Some(paused.map_or(until, |present| present.max(until)));
        drop(paused);
        tracing::warn!(?after, "the platform asks for fewer requests; all of them wait");
    }

    fn pause_left(&self) -> Duration {
        let until = *self.paused_until();
        until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default()
    }

    fn paused_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Sends a request and reads its answer; no success is an error.
pub(super) async fn exchange(
    request: RequestBuilder,
    token: &Secret,
    limit: Duration,
) -> Result<Vec<u8>, Cause> {
    let mut response = send(request, token, limit).await?;
    read_body(&mut response, limit).await
}

/// Sends a request and waits for the head of its answer; no success is an error.
pub(super) async fn send(
    request: RequestBuilder,
    token: &Secret,
    limit: Duration,
) -> Result<Response, Cause> {
    let request = request.bearer_auth(token.expose()).timeout(limit);
    let mut response = request.send().await.map_err(|e| Cause::broken(e, limit))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = mt_remote::retry_after(response.headers());
    // The status says enough where the words are lost, except for one that needs them.
    let body = read_body(&mut response, limit).await.unwrap_or_default();
    Err(refusal::read(status.as_u16(), retry_after, &body, token))
}

async fn read_body(response: &mut Response, limit: Duration) -> Result<Vec<u8>, Cause> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| Cause::broken(e, limit))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Cause::TooLong(MAX_ANSWER_BYTES));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(super) fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

pub(super) fn not_json(body: &[u8], secret: &Secret) -> Cause {
    Cause::NotJson { status: 200, excerpt: excerpt(body, secret) }
}
