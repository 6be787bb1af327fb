//! What a status other than 200 means.

use std::time::Duration;

use bytes::Bytes;
use libsql_hrana::proto;
use mt_core::{Error, ErrorKind, Secret};
use mt_remote::Fault;
use prost::Message as _;
use reqwest::{Response, StatusCode, header::CONTENT_TYPE};
use tokio::time::timeout;

use super::{door::Effect, encoding::Encoding, fault};
use crate::{NAME, excerpt::excerpt};

/// Whether a server says that it has no such route.
pub(super) const fn denies_route(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE
    )
}

/// Whether it may mean that. It has done nothing either way.
pub(super) fn may_deny_route(status: StatusCode) -> bool {
    denies_route(status) || status == StatusCode::BAD_REQUEST
}

/// What came with a status other than 200.
pub(super) struct Said {
    code: String,
    /// For a person to read.
    text: String,
}

impl Said {
    /// Nothing secret is quoted, neither `token` nor what looks like another.
    pub(super) async fn read(response: Response, wait: Duration, token: &Secret) -> Self {
        let kind = response.headers().get(CONTENT_TYPE);
        let is_protobuf = kind.is_some_and(|kind| kind == Encoding::Protobuf.content_type());
        let bytes = match timeout(wait, response.bytes()).await {
            Ok(Ok(bytes)) => bytes,
            _ => Bytes::new(),
        };
        let error = if is_protobuf {
            proto::Error::decode(bytes.clone()).ok()
        } else {
            serde_json::from_slice(&bytes).ok()
        };
        match error {
            Some(proto::Error { message, code }) => {
                let text = excerpt(format!("{code}: {message}").as_bytes(), token);
                Self { code, text }
            }
            None => Self { code: String::new(), text: excerpt(&bytes, token) },
        }
    }
}

/// The code of a stream that was left alone for too long: the server has taken everything back
/// that it held. Any other word about a stream it does not have may mean one that is over.
const EXPIRED: &str = "STREAM_EXPIRED";

/// The error of a status other than 200.
pub(super) fn refused(status: StatusCode, said: &Said, on_stream: bool, effect: Effect) -> Fault {
    let Said { code, text } = said;
    let error = |kind, what: &str| {
        Error::new(kind, format!("{what} (HTTP {status}: {text})")).with_provider(NAME)
    };
    match status {
        StatusCode::UNAUTHORIZED => {
            error(ErrorKind::Unauthenticated, "the database's server refuses the token").into()
        }
        StatusCode::FORBIDDEN => {
            error(ErrorKind::Statement, "the token does not allow that statement").into()
        }
        // The server looks for the stream before it runs anything on it. But a proxy may have sent
        // it before, and then this is the answer to the second: the first has closed the stream.
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE if on_stream => {
            let ended = "the server ended the transaction";
            if code == EXPIRED || effect == Effect::Reads {
                return fault::ended(&format!("{ended} (HTTP {status}: {text})"));
            }
            fault::lost(effect, error(ErrorKind::Unavailable, ended).into())
        }
        StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS => {
            error(ErrorKind::Unavailable, "the database's server cannot be reached now").into()
        }
        status if status.is_client_error() => {
            error(ErrorKind::Internal, "the database's server does not understand the request")
                .into()
        }
        // Also where there is nobody to serve it: proxies say so when a server that has the request
        // already goes away.
        _ => {
            let cause = error(ErrorKind::Unavailable, "the database's server failed");
            fault::lost(effect, cause.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_is_read_in_the_encoding_it_was_written_in() {
        let error = proto::Error { message: "too old".into(), code: "STREAM_EXPIRED".into() };
        for (kind, body, text) in [
            ("application/x-protobuf", error.encode_to_vec(), "STREAM_EXPIRED: too old"),
            ("text/plain", error.encode_to_vec(), "too old STREAM_EXPIRED"),
            ("application/json", serde_json::to_vec(&error).unwrap(), "STREAM_EXPIRED: too old"),
            ("application/json", br#"{"error":"no"}"#.to_vec(), r#"{"error":"no"}"#),
            ("application/x-protobuf", b"<html>".to_vec(), "<html>"),
        ] {
            assert_eq!(said(kind, body).await.text, text);
        }
    }

    async fn said(kind: &str, body: Vec<u8>) -> Said {
        let response = axum::http::Response::builder().header(CONTENT_TYPE, kind);
        let response = Response::from(response.body(body).unwrap());
        Said::read(response, Duration::from_secs(1), &Secret::new("opaque-token")).await
    }

    #[tokio::test]
    async fn what_is_quoted_holds_no_token() {
        let page = "not eyJhbGciOiJFZERTQSJ9.e30.c2ln, nor opaque-token";
        assert_eq!(said("text/plain", page.into()).await.text, "not …, nor …");
        let error = proto::Error { message: page.into(), code: "JWT".into() }.encode_to_vec();
        assert_eq!(said("application/x-protobuf", error).await.text, "JWT: not …, nor …");
    }

    #[test]
    fn only_some_words_say_that_nothing_was_done() {
        use ErrorKind::{OutcomeUnknown, Unavailable};
        for (status, code, on_stream, effect, kind) in [
            (400, EXPIRED, true, Effect::Writes, Unavailable),
            (400, "STREAM_CLOSED", true, Effect::Writes, OutcomeUnknown),
            (404, "", true, Effect::Writes, OutcomeUnknown),
            (410, "", true, Effect::Writes, OutcomeUnknown),
            (404, "", true, Effect::Reads, Unavailable),
            (404, "", false, Effect::Writes, Unavailable),
            (429, "", true, Effect::Writes, Unavailable),
            (503, "", true, Effect::Writes, OutcomeUnknown),
            (503, "", false, Effect::Writes, OutcomeUnknown),
            (503, "", false, Effect::Reads, Unavailable),
        ] {
            let said = Said { code: code.into(), text: String::new() };
            let status = StatusCode::from_u16(status).unwrap();
            let fault = refused(status, &said, on_stream, effect);
            assert_eq!(Error::from(fault).kind(), kind, "{status} {code}");
        }
    }
}
