//! Whole databases in and out, at their own hosts.

use std::{io::SeekFrom, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use mt_core::{Result, Secret};
use reqwest::{Body, Response, header::CONTENT_LENGTH};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::{Mutex, OwnedMutexGuard},
    time::{sleep, timeout},
};
use url::Url;

use super::{
    PlatformClient, PlatformLimits,
    error::{Action, Cause, Subject},
    transport::{Call, exchange, is_json, not_json, send},
};

/// How much of a file is read at once.
const CHUNK: usize = 64 * 1024;

impl PlatformClient {
    /// Fills a database that was created with [`Seed::Upload`](super::Seed::Upload) with the first
    /// `length` bytes of `file`: an SQLite database in WAL mode, checkpointed, with pages of 4096
    /// bytes, UTF-8 and no auto-vacuum. `token` is one of the database.
    ///
    /// Repeated after 408, 429 and 5xx and a lost connection: the same file twice is the same
    /// database.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `Unauthenticated` | the database's token was refused |
    /// | `OutcomeUnknown` | an answer was lost, and repeating it did not tell |
    /// | `Internal` | the file cannot be read, is shorter, or is not what the service takes |
    pub async fn upload(
        &self,
        hostname: &str,
        token: &Secret,
        file: File,
        length: u64,
    ) -> Result<()> {
        let url = self.data_endpoint(hostname)?.join(["v1", "upload"]);
        let action = Action::new("upload", Subject::Host(hostname.to_owned()));
        let call = Call::new(action, self.transport().limits.transfer_timeout);
        let file = Arc::new(Mutex::new(file));
        // As the vendor's own tool waits.
        let backoff = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.transport().limits.first_delay * 8)
            .with_max_delay(Duration::from_secs(60))
            .without_max_times();
        let sent = (|| self.upload_once(&call, &url, token, &file, length))
            .retry(backoff)
            .sleep(sleep)
            .when(Cause::is_transient)
            .adjust(|cause, delay| call.delay(cause, delay, self.transport().limits.longest_wait))
            .await;
        sent.map_err(|cause| {
            let cause = if call.is_unclear() { Cause::Unknown(Box::new(cause)) } else { cause };
            call.failed(cause).into()
        })
    }

    async fn upload_once(
        &self,
        call: &Call,
        url: &Url,
        token: &Secret,
        file: &Arc<Mutex<File>>,
        length: u64,
    ) -> Result<(), Cause> {
        // One handle for all attempts, and waited for: a read that an attempt before left behind
        // moves the place from which the next would read.
        let mut file = Arc::clone(file).lock_owned().await;
        let found = file.metadata().await.map_err(Cause::File)?.len();
        if found < length {
            return Err(Cause::ShortFile { found, expected: length });
        }
        file.seek(SeekFrom::Start(0)).await.map_err(Cause::File)?;
        let request = self
            .transport()
            .http
            .post(url.clone())
            .header(CONTENT_LENGTH, length)
            .body(Body::wrap_stream(chunks(file, length)));
        let answer = exchange(request, token, call.left()).await.and_then(|body| {
            if body.is_empty() || is_json(&body) { Ok(()) } else { Err(not_json(&body, token)) }
        });
        answer.inspect_err(|cause| call.note(cause))
    }

    /// The content of a database as SQL text, from the moment it is asked for. `token` is one of
    /// the database.
    ///
    /// # Errors
    /// Before the stream: `TenantNotFound` and `Unauthenticated` from the database's host, and
    /// those of [`PlatformClient`]. In it: `Unavailable` when the connection ends early, or nothing
    /// comes for [`PlatformLimits::request_timeout`](super::PlatformLimits::request_timeout); what
    /// came before is not the whole.
    pub async fn dump(
        &self,
        hostname: &str,
        token: &Secret,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let url = self.data_endpoint(hostname)?.join(["dump"]);
        let action = Action::new("dump", Subject::Host(hostname.to_owned()));
        let call = self.transport().call(action);
        let limits = &self.transport().limits;
        let response = (|| self.dump_once(&url, token))
            .retry(limits.backoff())
            .sleep(sleep)
            .when(Cause::is_transient)
            .adjust(|cause, delay| call.delay(cause, delay, limits.longest_wait))
            .await;
        match response {
            Ok(response) => Ok(pieces(response, call, limits).boxed()),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }

    async fn dump_once(&self, url: &Url, token: &Secret) -> Result<Response, Cause> {
        let request = self.transport().http.get(url.clone());
        let limits = &self.transport().limits;
        // The request's own limit goes for the whole body.
        let sent = send(request, token, limits.transfer_timeout);
        timeout(limits.request_timeout, sent)
            .await
            .unwrap_or(Err(Cause::Slow(limits.request_timeout)))
    }
}

/// The first `length` bytes of `file` from where it stands, which is free again when they are
/// dropped.
fn chunks(
    file: OwnedMutexGuard<File>,
    length: u64,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let count = (&mut *file).take(left).read_buf(&mut chunk).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((chunk.freeze(), (file, left - count as u64))))
    })
}

/// The body of `response`. An error is the last item.
fn pieces(
    response: Response,
    call: Call,
    limits: &PlatformLimits,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let (stall, whole) = (limits.request_timeout, limits.transfer_timeout);
    stream::try_unfold((response, call), move |(mut response, call)| async move {
        let piece = match timeout(stall, response.chunk()).await {
            Ok(piece) => piece.map_err(|e| Cause::broken(e, whole)),
            Err(_elapsed) => Err(Cause::Slow(stall)),
        };
        match piece {
            Ok(piece) => Ok(piece.map(|piece| (piece, (response, call)))),
            Err(cause) => Err(call.failed(cause).into()),
        }
    })
}
