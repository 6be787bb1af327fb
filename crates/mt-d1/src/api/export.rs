//! The service's own dump of a database: SQL text, made by the service and fetched from a place
//! that it tells. Its way back, the import, is not used: restoring goes by batches.

use std::time::Duration;

use backon::Retryable as _;
use mt_core::Result;
use mt_remote::Endpoint;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use url::Url;

use super::{
    D1Client,
    databases::NO_ID,
    envelope::Success,
    error::{Action, Cause, Subject},
    excerpt::hide,
    is_uuid,
    refusal::{self, Entry, Why},
    transport::{Call, Request},
};
use crate::budget::Lane;

/// How far an export is. No `Debug`: the URL is a secret, whoever has it has the data.
#[derive(Deserialize)]
struct Progress {
    success: Option<bool>,
    status: Option<String>,
    error: Option<Value>,
    at_bookmark: Option<String>,
    result: Option<Product>,
}

#[derive(Deserialize)]
struct Product {
    signed_url: Option<String>,
}

impl D1Client {
    /// Writes the service's dump of a database to `sink`, as SQL text, and tells how many bytes it
    /// has.
    ///
    /// - **The database answers nobody while it is exported**, and the service refuses those with
    ///   virtual tables. Integers beyond 2^53 are not exact in it.
    /// - Cost: one request, and one for each [`ApiLimits::poll_interval`](super::ApiLimits) until
    ///   it is ready. Fetching it is none of the token's.
    /// - Cancelling leaves an export that nobody asks for, which the service gives up.
    ///
    /// # Errors
    /// Those of [`D1Client`], `InUse`: another export is going on; `Unsupported`: the database has
    /// virtual tables; `Internal`: the service gave it up, or `sink` failed. On error what `sink`
    /// has is worthless.
    pub async fn export(
        &self,
        uuid: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let action = Action::new("export", Subject::Database(uuid.to_owned()));
        let time = self.transport().limits.transfer_timeout;
        let call = self.transport().call_within(time, action, &Lane::Control, Some(uuid));
        let outcome = async {
            if !is_uuid(uuid) {
                return Err(Cause::Setting(NO_ID));
            }
            let url = self.exported(&call, uuid).await?;
            self.fetch(&call, &url, sink).await
        };
        outcome.await.map_err(|cause| call.failed(cause).into())
    }

    /// Has the export made; where it is.
    async fn exported(&self, call: &Call, uuid: &str) -> Result<Url, Cause> {
        let transport = self.transport();
        let mut bookmark: Option<String> = None;
        loop {
            let mut body = json!({ "output_format": "polling" });
            if let Some(bookmark) = &bookmark {
                body["current_bookmark"] = json!(bookmark);
            }
            // Asked twice it is the same export.
            let request = Request::idempotent(Method::POST, self.url([uuid, "export"]))
                .with_body(body.to_string().into_bytes());
            let read = |answer: Success<Progress>| self.progress(answer.needed()?);
            let progress = match transport.run(call, &request, read).await {
                Ok(progress) => progress,
                // Ours, of which the answer was lost: without its bookmark it cannot be asked for,
                // and ends when nobody does.
                Err(cause)
                    if cause.why() == Some(Why::Exporting)
                        && call.is_unclear()
                        && call.left() > transport.limits.poll_interval =>
                {
                    sleep(transport.limits.poll_interval).await;
                    continue;
                }
                // Cut off by the export's own end, however little was left for it.
                Err(Cause::Slow(_)) if bookmark.is_some() && call.left().is_zero() => {
                    return Err(Cause::Late);
                }
                Err(cause) => return Err(cause),
            };
            if progress.status.as_deref() == Some("complete") {
                let url = progress.result.and_then(|product| product.signed_url);
                return self.place(&url.ok_or_else(|| missing("where it is"))?);
            }
            bookmark = progress.at_bookmark.or(bookmark);
            if bookmark.is_none() {
                return Err(missing("by what to ask for it again"));
            }
            if call.left() <= transport.limits.poll_interval {
                return Err(Cause::Late);
            }
            sleep(transport.limits.poll_interval).await;
        }
    }

    /// Takes an answer for a success only if no level of it says otherwise.
    fn progress(&self, progress: Progress) -> Result<Progress, Cause> {
        let is_error = progress.status.as_deref() == Some("error");
        let words = progress.error.as_ref().filter(|error| !error.is_null() && *error != "");
        if progress.success != Some(false) && !is_error && words.is_none() {
            return Ok(progress);
        }
        let token = &self.transport().token;
        let entry = Entry::of_words(words.cloned().unwrap_or_default());
        match refusal::read(200, None, &[entry], token) {
            cause if cause.why().is_some_and(|why| why != Why::Other) => Err(cause),
            _ => {
                let text = words.map(|words| match words {
                    Value::String(text) => hide(text, token),
                    other => hide(&other.to_string(), token),
                });
                Err(Cause::Export(text.unwrap_or_else(|| "it does not say why".to_owned())))
            }
        }
    }

    /// Where an export may be fetched from: by https, or on this machine if the service is.
    fn place(&self, url: &str) -> Result<Url, Cause> {
        // The error of the parser is dropped because it may show what is a secret.
        let Ok(url) = Url::parse(url) else { return Err(missing("a URL that can be read")) };
        let origin = Endpoint::new(&url.origin().ascii_serialization());
        let is_safe = origin.is_ok()
            && (url.scheme() == "https" || self.0.endpoint.is_loopback())
            && url.username().is_empty();
        if is_safe { Ok(url) } else { Err(Cause::Insecure) }
    }

    /// Fetches what is at `url`, without the token.
    async fn fetch(
        &self,
        call: &Call,
        url: &Url,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64, Cause> {
        let limits = &self.transport().limits;
        let mut response = (|| self.begin(url))
            .retry(limits.backoff())
            .sleep(sleep)
            .when(Cause::is_transient)
            .adjust(|cause, delay| call.delay(cause, delay))
            .await?;
        let mut written = 0;
        loop {
            let chunk = within(limits.request_timeout, response.chunk()).await?;
            let Some(chunk) = chunk else { break };
            sink.write_all(&chunk).await.map_err(Cause::Sink)?;
            written += chunk.len() as u64;
        }
        sink.flush().await.map_err(Cause::Sink)?;
        Ok(written)
    }

    async fn begin(&self, url: &Url) -> Result<Response, Cause> {
        let limits = &self.transport().limits;
        let request = self.transport().http.get(url.clone()).timeout(limits.transfer_timeout);
        let response = within(limits.request_timeout, request.send()).await?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(Cause::Fetch(status.as_u16())),
        }
    }
}

async fn within<T>(
    time: Duration,
    step: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, Cause> {
    match timeout(time, step).await {
        Ok(done) => done.map_err(|e| Cause::broken(e, time)),
        Err(_elapsed) => Err(Cause::Slow(time)),
    }
}

fn missing(what: &str) -> Cause {
    Cause::Malformed(format!("it does not tell {what}"))
}
