//! What of the service's words is shown to a person.

use mt_core::Secret;

/// The most characters that are quoted of an answer.
const EXCERPT: usize = 200;

/// `text` without the token, without where a URL leads (a signed one is a secret), and without a
/// value that the service quotes.
pub(super) fn hide(text: &str, token: &Secret) -> String {
    let text = match token.expose() {
        "" => text.to_owned(),
        token => text.replace(token, "…"),
    };
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, url)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://…");
        rest = url.trim_start_matches(is_url);
    }
    shown.push_str(rest);
    if let Some(start) = shown.find(VALUE) {
        shown.truncate(start + VALUE.len());
        shown.push('…');
    }
    shown
}

/// What stands before a bound value in an error of its type.
const VALUE: &str = "not supported for value ";

const fn is_url(c: char) -> bool {
    !matches!(c, '"' | '\'' | '<' | '>' | '`' | ')' | ' ' | '\t' | '\r' | '\n')
}

/// The beginning of `body` on one line, [hidden](hide) before it is shortened: half a secret is a
/// leak too.
///
/// Nothing of a body that is JSON, or the beginning of some: it may hold rows.
pub(super) fn excerpt(body: &[u8], token: &Secret) -> String {
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with(['{', '[']) {
        return "{…".to_owned();
    }
    let shown = hide(&text, token);
    let words: Vec<&str> = shown.split(is_gap).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_holds_no_secret_and_is_short() {
        let token = Secret::new("api-token");
        let body = b"<a href=\"https://host/key?sig=1\">x</a>\n api-token \x1b y";
        assert_eq!(excerpt(body, &token), "<a href=\"https://…\">x</a> … y");
        assert_eq!(excerpt(br#" {"rows":[["secret"#, &token), "{…");
        assert_eq!(excerpt("é".repeat(999).as_bytes(), &token).chars().count(), 201);
        let long = format!("{}api-token", "é".repeat(195));
        assert_eq!(excerpt(long.as_bytes(), &token), format!("{}…", "é".repeat(195)));
        let typed = "D1_TYPE_ERROR: Type 'object' not supported for value 'a secret'";
        assert_eq!(hide(typed, &token), "D1_TYPE_ERROR: Type 'object' not supported for value …");
        assert_eq!(hide("api-token", &Secret::new("")), "api-token");
    }
}
