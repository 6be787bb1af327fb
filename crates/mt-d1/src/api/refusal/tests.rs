use super::*;

fn entry(code: i64, message: &str) -> Entry {
    Entry { code: code.into(), message: message.into() }
}

fn refusal_of(status: u16, code: i64, message: &str) -> Option<Why> {
    match read(status, None, &[entry(code, message)], &Secret::new("api-token")) {
        Cause::Refused { why, .. } => Some(why),
        _ => None,
    }
}

fn statement_of(status: u16, message: &str) -> Option<StatementError> {
    match read(status, None, &[entry(7500, message)], &Secret::new("api-token")) {
        Cause::Statement(error) => Some(error),
        _ => None,
    }
}

#[test]
fn code_status_and_words_tell_refusals_apart() {
    for (status, code, message, expected) in [
        (400, 7502, "Internal error", Why::Taken),
        (400, 7502, "A database with that name already exists", Why::Taken),
        (400, 7406, "You have reached the maximum number of databases", Why::Quota),
        (404, 7404, "The database x could not be found", Why::Missing),
        (400, 7404, "", Why::Missing),
        (404, 7003, "Could not route to /accounts/x/d1/database", Why::Account),
        (400, 7400, "failed to decode id", Why::Account),
        (400, 7400, "Invalid property: sql => Required", Why::Other),
        (403, 7403, "The given account is not valid or is not authorized", Why::Credentials),
        (401, 10_000, "Authentication error", Why::Credentials),
        (400, 10_000, "Authentication error", Why::Credentials),
        (401, 0, "", Why::Credentials),
        (403, 9109, "Unauthorized to access requested resource", Why::Credentials),
        (429, 7500, "internal error", Why::Overrun(None)),
        (400, 7500, "Currently processing a long-running export.", Why::Exporting),
        (500, 7500, "Currently processing a long-running export.", Why::Exporting),
        (400, 7500, "D1 DB is overloaded. Requests queued for too long.", Why::Overloaded),
        (500, 7500, "D1 DB is overloaded. Too many requests queued.", Why::Overloaded),
        (500, 7500, "D1 DB is overloaded", Why::Failing(None)),
        (500, 7500, "internal error; reference = abc", Why::Failing(None)),
        (400, 7500, "internal error; reference = abc", Why::Failing(None)),
        (200, 7500, "D1_ERROR: Network connection lost.", Why::Failing(None)),
        (
            400,
            7500,
            "D1 DB storage operation exceeded timeout which caused object to be reset.",
            Why::Failing(None),
        ),
        (400, 7500, "D1 DB reset because its code was updated.", Why::Failing(None)),
        (400, 7500, "D1 DB's isolate exceeded its memory limit and was reset.", Why::Failing(None)),
        (400, 7500, "D1 DB exceeded its CPU time limit and was reset.", Why::Failing(None)),
        (
            400,
            7500,
            "Internal error in D1 DB storage caused object to be reset.",
            Why::Failing(None),
        ),
        (
            400,
            7500,
            "Internal error while starting up D1 DB storage caused object to be reset.",
            Why::Failing(None),
        ),
        (
            400,
            7500,
            "Cannot resolve D1 DB due to transient issue on remote node.",
            Why::Failing(None),
        ),
        (
            400,
            7500,
            "Can't read from request stream because client disconnected.",
            Why::Failing(None),
        ),
        (400, 7500, "disk I/O error: SQLITE_IOERR", Why::Failing(None)),
        (400, 7500, "Exceeded maximum DB size", Why::Quota),
        (400, 7500, "D1_ERROR: database or disk is full: SQLITE_FULL", Why::Quota),
        (400, 7500, "You have exceeded the daily D1 row read quota", Why::Quota),
        (413, 0, "", Why::TooLarge),
        (503, 0, "", Why::Failing(None)),
        (500, 1234, "who knows", Why::Failing(None)),
        (400, 1234, "Invalid property", Why::Other),
        (400, 7500, "", Why::Other),
        (200, 0, "", Why::Other),
    ] {
        assert_eq!(refusal_of(status, code, message), Some(expected), "{status} {code} {message}");
    }
}

#[test]
fn the_engines_words_and_its_code_are_split() {
    let unique = "UNIQUE constraint failed: u.email";
    for (status, message, words, code) in [
        (400, "no such table: nope: SQLITE_ERROR", "no such table: nope", Some("SQLITE_ERROR")),
        (
            500,
            "D1_ERROR: no such table: nope: SQLITE_ERROR",
            "no such table: nope",
            Some("SQLITE_ERROR"),
        ),
        (
            400,
            "UNIQUE constraint failed: u.email: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)",
            unique,
            Some("SQLITE_CONSTRAINT_UNIQUE"),
        ),
        (
            200,
            "UNIQUE constraint failed: u.email: SQLITE_CONSTRAINT",
            unique,
            Some("SQLITE_CONSTRAINT"),
        ),
        // As older answers have it.
        (400, "D1_ERROR: UNIQUE constraint failed: u.email", unique, None),
        (
            400,
            "SQL code did not contain a statement.",
            "SQL code did not contain a statement.",
            None,
        ),
        // What a trigger says is not what the service says.
        (
            400,
            "internal error; quota: SQLITE_FULL: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_TRIGGER)",
            "internal error; quota: SQLITE_FULL",
            Some("SQLITE_CONSTRAINT_TRIGGER"),
        ),
        (400, "no such table: daily quota", "no such table: daily quota", None),
        (400, "statement too long: SQLITE_TOOBIG", "statement too long", Some("SQLITE_TOOBIG")),
        (400, "a: SQLITE_ERROR (extended: x)", "a: SQLITE_ERROR (extended: x)", None),
    ] {
        let expected = StatementError::new(words, code.map(str::to_owned));
        assert_eq!(statement_of(status, message), Some(expected), "{status} {message}");
    }
}

#[test]
fn the_entry_that_is_known_counts() {
    let entries = [entry(1, "something"), entry(7502, "exists")];
    let cause = read(400, None, &entries, &Secret::new(""));
    assert_eq!(cause.why(), Some(Why::Taken), "{cause}");
    let strange = Entry { code: "7404".into(), message: serde_json::json!({ "a": "api-token" }) };
    let cause = read(400, None, &[strange], &Secret::new("api-token"));
    assert_eq!(cause.why(), Some(Why::Missing));
    assert!(cause.to_string().contains("(7404)") && !cause.to_string().contains("api-token"));
    assert_eq!(read(400, None, &[], &Secret::new("")).why(), Some(Why::Other));
}

#[test]
fn what_was_certainly_not_done_is_told_apart() {
    for (status, message, is_before_effect) in [
        (400, "Currently processing a long-running export.", true),
        (500, "D1 DB is overloaded. Requests queued for too long.", true),
        (429, "", true),
        (400, "internal error; reference = x", false),
        (400, "no such table: t: SQLITE_ERROR", true),
        // Success was denied, in words that are not known here.
        (200, "", false),
        (400, "", true),
    ] {
        let cause = read(status, None, &[entry(7500, message)], &Secret::new(""));
        assert_eq!(cause.is_before_effect(), is_before_effect, "{status} {message}");
    }
}
