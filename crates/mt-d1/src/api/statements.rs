//! Statements to one database.

use std::fmt;

use async_trait::async_trait;
use mt_remote::Fault;
use reqwest::Method;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use super::{
    D1Client,
    databases::NO_ID,
    envelope::Success,
    error::{Action, Cause, Subject},
    is_uuid,
    refusal::{self, Entry},
    transport::Request,
};
use crate::{
    budget::Lane,
    raw::{Effect, Meta, RawAnswer, RawStatement, Wire},
};

/// What the service answers for one statement.
#[derive(Deserialize)]
struct Item {
    success: Option<bool>,
    #[serde(default)]
    results: Results,
    meta: Option<Meta>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// A statement that failed may have anything in the place of its results.
#[derive(Default)]
enum Results {
    Table(Table),
    #[default]
    Other,
}

impl<'de> Deserialize<'de> for Results {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ResultsVisitor)
    }
}

/// Without it an answer would be read into memory twice, to see which of the two it has.
struct ResultsVisitor;

impl<'de> Visitor<'de> for ResultsVisitor {
    type Value = Results;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("columns and rows")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Results, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map)).map(Results::Table)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Results, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Results::Other)
    }

    fn visit_unit<E>(self) -> Result<Results, E> {
        Ok(Results::Other)
    }
}

#[derive(Serialize)]
struct Batch<'s> {
    batch: &'s [RawStatement],
}

impl D1Client {
    /// Runs `statements` as one atomic unit of one request; none are none.
    ///
    /// What only reads is repeated while the service fails; what writes only where it was certainly
    /// not done.
    ///
    /// # Errors
    /// `Statement`: the database refused one, and nothing of them lasts. Else those of
    /// [`D1Client`], and
    ///
    /// | kind | when |
    /// |---|---|
    /// | `OutcomeUnknown` | the answer to what writes was lost, or cannot be understood |
    /// | `InUse` | the database is being exported |
    /// | `Unsupported` | the request, or the answer to what reads, is too long |
    pub(crate) async fn raw(
        &self,
        uuid: &str,
        lane: &Lane,
        statements: Vec<RawStatement>,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault> {
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let transport = self.transport();
        let action = Action::new("query", Subject::Statements(uuid.to_owned()));
        let call = transport.call(action, lane, Some(uuid));
        let outcome = async {
            if !is_uuid(uuid) {
                return Err(Cause::Setting(NO_ID));
            }
            let body = body(&statements, transport.limits.request_bytes)?;
            let url = self.url([uuid, "raw"]);
            let request = match effect {
                Effect::Reads => Request::idempotent(Method::POST, url),
                Effect::Writes => Request::once(Method::POST, url),
            };
            let count = statements.len();
            drop(statements);
            let read = |answer: Success<Vec<Item>>| self.answers(answer.needed()?, count, effect);
            transport.run(&call, &request.with_body(body), read).await
        };
        outcome.await.map_err(|cause| call.failed(cause).into_fault())
    }

    /// The answers to `count` statements, each a success by its own word.
    fn answers(
        &self,
        items: Vec<Item>,
        count: usize,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Cause> {
        if items.len() != count {
            let text = format!("it has {} results, expected {count}", items.len());
            return Err(Cause::Malformed(text));
        }
        let answers = items.into_iter().enumerate().map(|(index, item)| {
            self.answer(item).map_err(|source| match effect {
                // What became of the others is not told.
                Effect::Writes if count > 1 => {
                    Cause::Partly { number: index + 1, count, source: Box::new(source) }
                }
                _ => source,
            })
        });
        answers.collect()
    }

    fn answer(&self, item: Item) -> Result<RawAnswer, Cause> {
        if item.success != Some(true) {
            let entry = item.error.map(Entry::of_words);
            return Err(refusal::read(200, None, entry.as_slice(), &self.transport().token));
        }
        match item.results {
            Results::Table(Table { columns, rows }) => {
                Ok(RawAnswer { columns, rows, meta: item.meta.unwrap_or_default() })
            }
            Results::Other => Err(Cause::Malformed("a statement's results are missing".to_owned())),
        }
    }
}

/// One statement as it is, several as a batch, which is one transaction.
fn body(statements: &[RawStatement], most: usize) -> Result<Vec<u8>, Cause> {
    let body = match statements {
        [one] => serde_json::to_vec(one),
        several => serde_json::to_vec(&Batch { batch: several }),
    };
    // A map with keys that are no text would fail, and there is none.
    let body = body.map_err(|_no_json| Cause::Setting("the statements are no JSON"))?;
    match body.len() {
        found if found > most => Err(Cause::TooLarge { found, most }),
        _ => Ok(body),
    }
}

/// One database, for one purpose.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    client: D1Client,
    uuid: String,
    lane: Lane,
}

impl Target {
    /// The database `uuid`, asked on behalf of `lane`.
    pub(crate) fn new(client: D1Client, uuid: impl Into<String>, lane: Lane) -> Self {
        Self { client, uuid: uuid.into(), lane }
    }
}

#[async_trait]
impl Wire for Target {
    async fn send(
        &self,
        statements: Vec<RawStatement>,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault> {
        self.client.raw(&self.uuid, &self.lane, statements, effect).await
    }
}
