//! What of a server's words is shown to a person.

use mt_core::Secret;

/// The most characters that are quoted of an answer.
const EXCERPT: usize = 200;

/// The beginning of `body` on one line, without `secret` and without what looks like a JWT.
pub(crate) fn excerpt(body: &[u8], secret: &Secret) -> String {
    // Hidden before it is shortened: half a token is a leak too.
    let mut text = String::from_utf8_lossy(body).into_owned();
    if !secret.expose().is_empty() {
        text = text.replace(secret.expose(), "…");
    }
    let mut quoted = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(JWT) {
        quoted.push_str(&rest[..start]);
        quoted.push('…');
        rest = rest[start..].trim_start_matches(is_jwt);
    }
    quoted.push_str(rest);
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    let words: Vec<&str> = quoted.split(is_gap).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What `{"` is in base64: every JWT begins with it.
const JWT: &str = "eyJ";

const fn is_jwt(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_holds_no_secret_and_is_short() {
        let secret = Secret::new("platform-token");
        let jwt = "eyJhbGciOiJFZERTQSJ9.eyJhIjoicncifQ.c2lnbmF0dXJl_-";
        let body = format!("a {jwt}, b platform-token\n\u{1b} c{{\"jwt\":\"{jwt}\"}}");
        assert_eq!(excerpt(body.as_bytes(), &secret), r#"a …, b … c{"jwt":"…"}"#);
        let long = format!("{}{jwt}", "é".repeat(195));
        assert_eq!(excerpt(long.as_bytes(), &secret), format!("{}…", "é".repeat(195)));
        assert_eq!(excerpt("x".repeat(999).as_bytes(), &secret).chars().count(), 201);
    }
}
