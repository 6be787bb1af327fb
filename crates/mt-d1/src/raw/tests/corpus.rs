//! What was recorded of the real engine, run again through this protocol.
//!
//! Each line of the file is run on the engine, or it says here why it is not; and what comes back is
//! what was recorded, as far as JSON and JavaScript's numbers let the recording keep it.

use std::collections::{BTreeMap, HashMap};

use mt_core::{Error, ErrorKind};
use mt_remote::{Answer, Command, Fault, Protocol as _, Value};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{
    super::{D1Protocol, Effect, RawStatement, Shapes, Wire as _},
    engine::Site,
    fake::number,
};
use crate::api::Target;

const CORPUS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../mt-devservers/tests/fixtures/d1-corpus.jsonl"
));

#[derive(Deserialize)]
struct Line {
    seq: u32,
    engine: String,
    #[serde(default)]
    db: String,
    case: String,
    request: Option<Request>,
    status: u16,
    response_text: String,
}

#[derive(Deserialize)]
struct Request {
    note: Option<String>,
    sql: Option<String>,
    #[serde(default)]
    params: Vec<Json>,
    batch: Option<Vec<One>>,
}

#[derive(Clone, Deserialize)]
struct One {
    sql: String,
    #[serde(default)]
    params: Vec<Json>,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// The engine answered what it answered then.
    Same,
    /// It answered, and what was recorded was of its moment.
    SameButForMoments,
    /// It refused it in the words of then.
    RefusedInTheSameWords,
    /// It failed then with a reference instead of a reason, and fails.
    Failed,
    /// We refuse what it refuses.
    RefusedBefore,
    /// We refuse what it answered: it would leak, or do nothing, or could not be read exactly.
    RefusedThoughAnswered,
    /// The engine refused it for what we send in another way, and now it answers.
    SentOtherwise,
    /// With our expressions in the places of values it is deeper than the engine takes.
    TooDeep,
    /// A value in it has no form in Rust, or in SQLite.
    NoValue,
    /// The recording is abridged, so that it cannot be run.
    Abridged,
    /// It is about the recorder's own API.
    NoStatement,
    /// It took the engine a quarter of a minute.
    TooLong,
}

/// Asks how much the process has changed so far.
const MOMENTS: [u32; 1] = [219];
/// A comment after a semicolon, two semicolons, a number above 100, a value too many, more than 100
/// values, and parameters that are no strings.
const SENT_OTHERWISE: [u32; 8] = [53, 105, 111, 1_039, 1_050, 2_008, 2_009, 2_010];
/// Sums of 99 and 100 values, at the very limit of depth.
const TOO_DEEP: [u32; 2] = [102, 103];
const TOO_LONG: [u32; 1] = [1_058];

/// A parameter that no text of Rust's can be.
const HALF_A_CHARACTER: &str = r#""\ud83d""#;

fn lines() -> impl Iterator<Item = Line> {
    let whole = CORPUS.lines().filter(|line| !line.contains(HALF_A_CHARACTER));
    whole.map(|line| serde_json::from_str(line).unwrap())
}

fn statements(request: &Request) -> Vec<One> {
    match (&request.sql, &request.batch) {
        (Some(sql), _) => vec![One { sql: sql.clone(), params: request.params.clone() }],
        (None, batch) => batch.clone().unwrap_or_default(),
    }
}

/// What the engine was given; to it, a number and a truth are real.
fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Real(f64::from(u8::from(*value))),
        Json::Number(value) => Value::Real(value.as_f64()?),
        Json::String(value) => Value::Text(value.clone()),
        Json::Array(bytes) => {
            let byte = |byte: &Json| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
            Value::Blob(bytes.iter().map(byte).collect::<Option<_>>()?)
        }
        Json::Object(_) => return None,
    })
}

fn command(one: &One) -> Option<Command> {
    let parameters = one.params.iter().map(value).collect::<Option<_>>()?;
    Some(Command { sql: one.sql.clone(), parameters })
}

/// A value as the recording has it.
#[expect(clippy::cast_precision_loss, reason = "that is what happened to it")]
fn recorded(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(value) => number(*value as f64),
        Value::Real(value) => number(*value),
        Value::Text(value) => Json::String(value.clone()),
        Value::Blob(value) => Json::Array(value.iter().map(|&byte| byte.into()).collect()),
    }
}

/// Rows as objects, in which the last of several columns of a name is left.
fn objects(answer: &Answer) -> Json {
    let object = |row: &Vec<Value>| -> Map<String, Json> {
        let names = answer.columns.iter().map(|column| column.name.clone());
        names.zip(row.iter().map(recorded)).collect()
    };
    Json::Array(answer.rows.iter().map(|row| Json::Object(object(row))).collect())
}

fn table(answer: &Answer) -> Json {
    let names: Vec<_> = answer.columns.iter().map(|column| column.name.clone()).collect();
    let rows: Vec<Vec<_>> =
        answer.rows.iter().map(|row| row.iter().map(recorded).collect()).collect();
    serde_json::json!({ "columns": names, "rows": rows })
}

/// Numbers as doubles, however they are written.
fn plain(json: &Json) -> Json {
    match json {
        Json::Number(value) => number(value.as_f64().unwrap()),
        Json::Array(items) => Json::Array(items.iter().map(plain).collect()),
        Json::Object(items) => {
            items.iter().map(|(name, item)| (name.clone(), plain(item))).collect()
        }
        other => other.clone(),
    }
}

/// A database of the recording, and one of ours in the same state.
struct Databases<'s> {
    site: &'s Site,
    open: HashMap<String, (Target, D1Protocol)>,
}

impl Databases<'_> {
    async fn of(&mut self, line: &Line) -> &(Target, D1Protocol) {
        let key = format!("{}-{}", line.engine, line.db);
        if !self.open.contains_key(&key) {
            let target = self.site.database(&format!("mt_{}", self.open.len())).await;
            let protocol = D1Protocol::new(std::sync::Arc::new(target.clone()), Shapes::new());
            self.open.insert(key.clone(), (target, protocol));
        }
        &self.open[&key]
    }
}

fn message(line: &Line) -> String {
    let answer: Json = serde_json::from_str(&line.response_text).unwrap_or_default();
    let message = answer["errors"][0]["message"].as_str().unwrap_or_default();
    let message = message.strip_prefix("D1_ERROR: ").unwrap_or(message);
    super::super::protocol::without_offset(message)
}

async fn fate(line: &Line, databases: &mut Databases<'_>) -> Result<Fate, String> {
    let Some(request) = &line.request else { return Ok(Fate::NoStatement) };
    if request.note.is_some() {
        return Ok(Fate::Abridged);
    }
    if TOO_LONG.contains(&line.seq) {
        return Ok(Fate::TooLong);
    }
    let ones = statements(request);
    let Some(commands) = ones.iter().map(command).collect::<Option<Vec<_>>>() else {
        return Ok(Fate::NoValue);
    };
    let answered = line.status == 200;
    if commands.is_empty() {
        return if answered {
            Err("nothing was answered".to_owned())
        } else {
            Ok(Fate::NoStatement)
        };
    }
    let (target, protocol) = databases.of(line).await;
    let seen = protocol.batch(commands).await;
    let fault = match seen {
        Ok(answers) => return same(line, &answers),
        Err(fault) => fault,
    };
    let words = match &fault {
        Fault::Statement(error) => error.message.clone(),
        Fault::Other(_) => String::new(),
    };
    let error = Error::from(fault);
    let refused =
        words.is_empty() && matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Statement);
    match (answered, refused) {
        (true, true) => {
            // So that the next line meets what it met then.
            let raw = |one: &One| RawStatement { sql: one.sql.clone(), params: one.params.clone() };
            let sent = target.send(ones.iter().map(raw).collect(), Effect::Writes).await;
            match sent {
                // What the API answers for several statements in a text is several answers.
                Ok(_) => Ok(Fate::RefusedThoughAnswered),
                Err(_) if ones.iter().any(|one| one.sql.contains(';')) => {
                    Ok(Fate::RefusedThoughAnswered)
                }
                Err(fault) => Err(format!("{fault}")),
            }
        }
        (true, false) if TOO_DEEP.contains(&line.seq) && words.contains("too large") => {
            Ok(Fate::TooDeep)
        }
        (true, false) => Err(format!("failed with {}", error.to_chain())),
        (false, true) => Ok(Fate::RefusedBefore),
        (false, false) if message(line).starts_with("internal error") => Ok(Fate::Failed),
        (false, false) => {
            let (seen, expected) = (told(&words), told(&message(line)));
            if seen == expected {
                Ok(Fate::RefusedInTheSameWords)
            } else {
                Err(format!("failed with `{seen}`, not `{expected}`: {}", error.to_chain()))
            }
        }
    }
}

/// The words without the code, which the client tells apart.
fn told(message: &str) -> String {
    let end = message.find(": SQLITE_").unwrap_or(message.len());
    message[..end].to_owned()
}

fn same(line: &Line, answers: &[Answer]) -> Result<Fate, String> {
    if line.status != 200 {
        return if SENT_OTHERWISE.contains(&line.seq) {
            Ok(Fate::SentOtherwise)
        } else {
            Err(format!("succeeded; it was `{}`", message(line)))
        };
    }
    if line.response_text.contains('\u{2026}') {
        return Ok(Fate::Abridged);
    }
    let expected: Json = serde_json::from_str(&line.response_text).map_err(|e| e.to_string())?;
    let expected = expected["result"].as_array().cloned().unwrap_or_default();
    if expected.len() != answers.len() {
        return Err(format!("{} answers, not {}", answers.len(), expected.len()));
    }
    let mut fate = Fate::Same;
    for (seen, expected) in answers.iter().zip(&expected) {
        let results = &expected["results"];
        let rows = if results.is_array() { objects(seen) } else { table(seen) };
        if plain(&rows) != plain(results) {
            fate = match line.seq {
                seq if MOMENTS.contains(&seq) => Fate::SameButForMoments,
                _ => return Err(format!("{rows}, not {results}")),
            };
        }
    }
    Ok(fate)
}

#[tokio::test]
async fn the_corpus_is_answered_as_it_was() {
    let site = Site::start().await;
    let mut databases = Databases { site: &site, open: HashMap::new() };
    let mut fates: BTreeMap<Fate, Vec<u32>> = BTreeMap::new();
    let mut wrong = Vec::new();
    let halves = CORPUS.lines().filter(|line| line.contains(HALF_A_CHARACTER)).count();
    for line in lines() {
        match fate(&line, &mut databases).await {
            Ok(fate) => fates.entry(fate).or_default().push(line.seq),
            Err(why) => wrong.push(format!("{} {}: {why:.600}", line.seq, line.case)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let counts: Vec<_> = fates.iter().map(|(fate, lines)| (*fate, lines.len())).collect();
    let expected = [
        (Fate::Same, 171),
        (Fate::SameButForMoments, 1),
        (Fate::RefusedInTheSameWords, 44),
        (Fate::Failed, 2),
        (Fate::RefusedBefore, 61),
        (Fate::RefusedThoughAnswered, 21),
        (Fate::SentOtherwise, 8),
        (Fate::TooDeep, 2),
        (Fate::NoValue, 1),
        (Fate::Abridged, 11),
        (Fate::NoStatement, 6),
        (Fate::TooLong, 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!(halves, 1);
    assert_eq!(CORPUS.lines().count(), 330);
}
