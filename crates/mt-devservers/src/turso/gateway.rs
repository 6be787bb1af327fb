//! The data plane: passes on to sqld what clients send to their databases.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, HttpBody as _, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use reqwest::{Client, redirect};
use serde_json::{Value, json};

use crate::turso::{
    platform::{Platform, Service},
    upload,
};

/// Headers that mean one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) platform: Arc<Platform>,
    client: Client,
}

pub(crate) fn router(platform: Arc<Platform>) -> anyhow::Result<Router> {
    // Streams of a client may be slow, so that there is no timeout here: clients have theirs.
    let client = crate::http::client().redirect(redirect::Policy::none()).build()?;
    let router = Router::new().route("/v1/upload", post(upload::receive)).fallback(pass);
    Ok(router.with_state(Gateway { platform, client }))
}

impl Gateway {
    /// The database that a request means, and an answer instead of it while it is not served.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Option<String>, Box<Response>> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let Some(name) = host.and_then(|host| self.platform.database_of(host)) else {
            return Ok(None);
        };
        match self.platform.service(name) {
            Service::Given => Ok(Some(name.to_owned())),
            Service::NotYet => {
                let namespace = self.platform.namespace(name);
                let body = json!({"error": format!("Namespace `{namespace}` doesn't exist")});
                Err((StatusCode::NOT_FOUND, Json(body)).into_response().into())
            }
            Service::Asleep => {
                let body = "<html><body><h1>502 Bad Gateway</h1></body></html>\n";
                let html = [(header::CONTENT_TYPE, "text/html")];
                Err((StatusCode::BAD_GATEWAY, html, body).into_response().into())
            }
        }
    }
}

/// Passes a request on as it came, with its `Host`, by which sqld chooses the namespace.
async fn pass(State(gateway): State<Gateway>, request: Request) -> Response {
    if let Err(answer) = gateway.admit(request.headers()) {
        return *answer;
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let is_stream = path.ends_with("/pipeline") || path.ends_with("/cursor");
    let url = format!("http://127.0.0.1:{}{path}", gateway.platform.sqld.port());
    let mut request = gateway.client.request(parts.method, url).headers(end_to_end(parts.headers));
    // An empty stream would be sent as a body in chunks, also of a GET.
    if !body.is_end_stream() {
        request = request.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    let Ok(answer) = request.send().await else {
        return (StatusCode::BAD_GATEWAY, "the database does not answer").into_response();
    };
    let status = answer.status();
    let headers = end_to_end(answer.headers().clone());
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let base_url = gateway.platform.knobs().base_url.clone();
    match base_url.filter(|_| is_stream) {
        Some(base_url) => with_base_url(response, &path, &base_url).await,
        None => response,
    }
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}

/// Tells another `base_url`: the answer of a pipeline is one message, that of a cursor begins with
/// one, on a line of its own in JSON and after its length in Protobuf.
async fn with_base_url(response: Response, path: &str, base_url: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return (StatusCode::BAD_GATEWAY, "the database's answer is torn").into_response();
    };
    let changed = match (path.contains("-protobuf/"), path.ends_with("/cursor")) {
        (false, _) => in_json(&body, base_url),
        (true, false) => Some(in_protobuf(&body, base_url)),
        (true, true) => in_first_protobuf(&body, base_url),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, changed.map_or_else(|| Body::from(body), Body::from))
}

fn in_json(body: &[u8], base_url: &str) -> Option<Vec<u8>> {
    let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
    let (first, rest) = body.split_at(end);
    let mut object: Value = serde_json::from_slice(first).ok()?;
    if object.get("base_url").is_some() {
        object["base_url"] = json!(base_url);
    }
    Some([object.to_string().as_bytes(), rest].concat())
}

/// Of a field that comes twice the last is valid.
fn in_protobuf(message: &[u8], base_url: &str) -> Vec<u8> {
    /// The second field, with a length.
    const BASE_URL: u8 = 0x12;
    [message, &[BASE_URL], &prefix(base_url.len()), base_url.as_bytes()].concat()
}

fn in_first_protobuf(body: &[u8], base_url: &str) -> Option<Vec<u8>> {
    let mut rest = body;
    let length = prost::decode_length_delimiter(&mut rest).ok()?;
    let (first, rest) = rest.split_at_checked(length)?;
    let first = in_protobuf(first, base_url);
    Some([&prefix(first.len()), first.as_slice(), rest].concat())
}

/// What says a length in Protobuf.
fn prefix(length: usize) -> Vec<u8> {
    let mut prefix = Vec::new();
    // A vector has room for it.
    let _written = prost::encode_length_delimiter(length, &mut prefix);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_keeps_what_it_was_besides_its_base_url() {
        let told = in_protobuf(b"\x0a\x01b", "else");
        assert_eq!(told, b"\x0a\x01b\x12\x04else");
        let told = in_first_protobuf(b"\x03\x0a\x01b\x02xy", "else").unwrap();
        assert_eq!(told, b"\x09\x0a\x01b\x12\x04else\x02xy");
        // A length of two bytes.
        let long = "e".repeat(300);
        let told = in_first_protobuf(b"\x00\x00", &long).unwrap();
        assert!(told.starts_with(b"\xaf\x02\x12\xac\x02e") && told.ends_with(b"e\x00"));
        // A torn answer stays as it is.
        assert!(in_first_protobuf(b"\x03ab", &long).is_none());
    }
}
