//! Between our types and the protocol's.
//!
//! Real numbers pass to the last bit where the server has Protobuf. In JSON they are written with
//! as many digits as tell them apart, and a server that reads decimals inexactly stores another
//! number: sqld 0.24.32 is off by a unit in the last place for one in four that take all 17.

use libsql_hrana::proto::{
    self, Batch, BatchCond, BatchCondList, BatchResult, BatchStep, BatchStreamReq, CloseStreamReq,
    Col, ExecuteStreamReq, Stmt, StmtResult, StreamRequest, StreamResponse, StreamResult,
};
use mt_remote::{Answer, Column, Command, Endpoint, Fault, Row, TransactionMode, Value};

use super::{door::Effect, encoding::Encoding, fault};

/// Where a stream goes on.
#[derive(Clone, Debug)]
pub(super) struct StreamAt {
    pub(super) baton: String,
    pub(super) endpoint: Endpoint,
    /// What it was opened in.
    pub(super) encoding: Encoding,
}

/// One request of several, on a new stream or an open one.
pub(super) struct Pipeline {
    pub(super) stream: Option<StreamAt>,
    pub(super) requests: Vec<StreamRequest>,
}

impl Pipeline {
    pub(super) const fn fresh(requests: Vec<StreamRequest>) -> Self {
        Self { stream: None, requests }
    }

    pub(super) const fn on(stream: StreamAt, requests: Vec<StreamRequest>) -> Self {
        Self { stream: Some(stream), requests }
    }
}

pub(super) const fn close() -> StreamRequest {
    StreamRequest::Close(CloseStreamReq {})
}

pub(super) fn execute(command: &Command) -> StreamRequest {
    StreamRequest::Execute(ExecuteStreamReq { stmt: statement(command) })
}

pub(super) fn statement(command: &Command) -> Stmt {
    let mut statement = Stmt::new(command.sql.as_str(), true);
    statement.args = command.parameters.iter().map(to_wire).collect();
    statement
}

fn to_wire(value: &Value) -> proto::Value {
    match value {
        Value::Null => proto::Value::Null,
        Value::Integer(value) => proto::Value::Integer { value: *value },
        // SQLite has no such number either, and stores NULL.
        Value::Real(value) if value.is_nan() => proto::Value::Null,
        Value::Real(value) => proto::Value::Float { value: *value },
        Value::Text(value) => proto::Value::Text { value: value.as_str().into() },
        Value::Blob(value) => proto::Value::Blob { value: value.clone().into() },
    }
}

fn from_wire(value: proto::Value) -> Result<Value, Fault> {
    Ok(match value {
        proto::Value::Null => Value::Null,
        proto::Value::Integer { value } => Value::Integer(value),
        proto::Value::Float { value } => Value::Real(value),
        proto::Value::Text { value } => Value::Text((*value).to_owned()),
        proto::Value::Blob { value } => Value::Blob(value.into()),
        proto::Value::None => return Err(fault::garbled("a value of no type")),
    })
}

pub(super) fn row(row: proto::Row) -> Result<Row, Fault> {
    row.values.into_iter().map(from_wire).collect()
}

pub(super) fn columns(columns: Vec<Col>) -> Vec<Column> {
    let column =
        |column: Col| Column { name: column.name.unwrap_or_default(), declared: column.decltype };
    columns.into_iter().map(column).collect()
}

fn answer(result: StmtResult, effect: Effect) -> Result<Answer, Fault> {
    let rows = result.rows.into_iter().map(row).collect::<Result<_, _>>();
    Ok(Answer {
        columns: columns(result.cols),
        // The statement has run.
        rows: rows.map_err(|fault| fault::lost(effect, fault))?,
        rows_affected: result.affected_row_count,
        last_insert_rowid: result.last_insert_rowid,
    })
}

/// The answer to a pipeline that begins with an `execute`.
pub(super) fn read_execute(results: Vec<StreamResult>, effect: Effect) -> Result<Answer, Fault> {
    match results.into_iter().next() {
        Some(StreamResult::Ok { response: StreamResponse::Execute(response) }) => {
            answer(response.result, effect)
        }
        Some(StreamResult::Error { error }) => Err(fault::of_statement(&error, effect)),
        _ => Err(fault::lost(effect, fault::garbled("no answer to the statement"))),
    }
}

/// Statements that go in one request, and which of them are the caller's.
pub(super) struct Steps {
    batch: Batch,
    /// The caller's statements are these steps.
    first: usize,
    count: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One after the other, each if the one before it succeeded.
    Script,
    /// Between a begin and a commit of their own.
    Atomic,
    /// Inside an open transaction.
    Inside,
}

/// What became of the steps of a batch.
struct Outcome {
    results: Vec<Option<StmtResult>>,
    errors: Vec<Option<proto::Error>>,
}

impl Steps {
    pub(super) fn script(commands: &[Command]) -> Self {
        Self::chain(commands, Kind::Script)
    }

    /// Inside a transaction: what comes after the server has ended it does nothing.
    pub(super) fn inside(commands: &[Command]) -> Self {
        Self::chain(commands, Kind::Inside)
    }

    fn chain(commands: &[Command], kind: Kind) -> Self {
        let mut steps: Vec<BatchStep> = Vec::with_capacity(commands.len());
        for command in commands {
            let after = steps.len().checked_sub(1).map(succeeded);
            let condition = match kind {
                Kind::Inside => Some(all(after.into_iter().chain([in_transaction()]))),
                Kind::Script | Kind::Atomic => after,
            };
            steps.push(BatchStep { condition, stmt: statement(command) });
        }
        Self { batch: batch(steps), first: 0, count: commands.len(), kind }
    }

    pub(super) fn atomic(commands: &[Command]) -> Self {
        Self::between(commands, TransactionMode::Immediate)
    }

    /// Reads of one state of the database.
    pub(super) fn snapshot(commands: &[Command]) -> Self {
        let mut steps = Self::between(commands, TransactionMode::Deferred);
        // A failed step ends the answer, and the stream that is closed then rolls back.
        steps.batch.steps.pop();
        steps
    }

    fn between(commands: &[Command], mode: TransactionMode) -> Self {
        let mut steps = vec![BatchStep { condition: None, stmt: Stmt::new(begin(mode), false) }];
        for command in commands {
            let condition = Some(all([succeeded(steps.len() - 1), in_transaction()]));
            steps.push(BatchStep { condition, stmt: statement(command) });
        }
        let last = steps.len() - 1;
        steps.push(BatchStep {
            condition: Some(all([succeeded(last), in_transaction()])),
            stmt: Stmt::new("COMMIT", false),
        });
        steps.push(BatchStep {
            condition: Some(in_transaction()),
            stmt: Stmt::new("ROLLBACK", false),
        });
        Self { batch: batch(steps), first: 1, count: commands.len(), kind: Kind::Atomic }
    }

    /// The place of the last step.
    pub(super) fn last(&self) -> u32 {
        u32::try_from(self.batch.steps.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) const fn batch(&self) -> &Batch {
        &self.batch
    }

    pub(super) fn into_batch(self) -> Batch {
        self.batch
    }

    pub(super) fn to_request(&self) -> StreamRequest {
        StreamRequest::Batch(BatchStreamReq { batch: self.batch.clone() })
    }

    /// The caller's answers, if all of its statements ran.
    pub(super) fn read(
        &self,
        results: Vec<StreamResult>,
        effect: Effect,
    ) -> Result<Vec<Answer>, Fault> {
        let mut outcome = self.outcome(results, effect)?;
        if let Some(error) = outcome.errors.iter_mut().find_map(Option::take) {
            // What is atomic was rolled back by the last step, or with the stream.
            let effect = if self.kind == Kind::Script { effect } else { Effect::Reads };
            return Err(fault::of_statement(&error, effect));
        }
        if self.kind == Kind::Atomic && outcome.results[self.first + self.count].is_none() {
            return Err(fault::ended("the server rolled the batch back"));
        }
        let answers = outcome.results.drain(self.first..self.first + self.count);
        answers
            .map(|result| match (result, self.kind) {
                (Some(result), _) => answer(result, effect),
                (None, Kind::Inside) => Err(fault::ended("the server ended the transaction")),
                (None, Kind::Script | Kind::Atomic) => {
                    Err(fault::lost(effect, fault::garbled("a statement was left out")))
                }
            })
            .collect()
    }

    fn outcome(&self, results: Vec<StreamResult>, effect: Effect) -> Result<Outcome, Fault> {
        let steps = self.batch.steps.len();
        match results.into_iter().next() {
            Some(StreamResult::Ok { response: StreamResponse::Batch(response) }) => {
                let BatchResult { step_results, step_errors, .. } = response.result;
                if step_results.len() == steps && step_errors.len() == steps {
                    return Ok(Outcome { results: step_results, errors: step_errors });
                }
                Err(fault::lost(effect, fault::garbled("an answer of another length")))
            }
            Some(StreamResult::Error { error }) => Err(fault::of_statement(&error, effect)),
            _ => Err(fault::lost(effect, fault::garbled("no answer to the batch"))),
        }
    }
}

pub(super) const fn begin(mode: TransactionMode) -> &'static str {
    match mode {
        TransactionMode::Deferred => "BEGIN DEFERRED",
        TransactionMode::Immediate => "BEGIN IMMEDIATE",
    }
}

/// Ends the transaction with `verb`; without one it does nothing, and its result is missing.
pub(super) fn end(verb: &str) -> StreamRequest {
    let step = BatchStep { condition: Some(in_transaction()), stmt: Stmt::new(verb, false) };
    StreamRequest::Batch(BatchStreamReq { batch: batch(vec![step]) })
}

/// What became of [`end`]: whether there was a transaction to end.
pub(super) fn read_end(results: Vec<StreamResult>) -> Result<bool, Fault> {
    match results.into_iter().next() {
        Some(StreamResult::Ok { response: StreamResponse::Batch(response) }) => {
            if let Some(error) = response.result.step_errors.into_iter().flatten().next() {
                return Err(fault::of_statement(&error, Effect::Reads));
            }
            Ok(response.result.step_results.first().is_some_and(Option::is_some))
        }
        Some(StreamResult::Error { error }) => Err(fault::of_statement(&error, Effect::Reads)),
        _ => Err(fault::lost(Effect::Writes, fault::garbled("no answer to the end"))),
    }
}

fn batch(steps: Vec<BatchStep>) -> Batch {
    Batch { steps, replication_index: None }
}

fn succeeded(step: usize) -> BatchCond {
    BatchCond::Ok { step: u32::try_from(step).unwrap_or(u32::MAX) }
}

pub(super) fn in_transaction() -> BatchCond {
    BatchCond::Not { cond: Box::new(BatchCond::IsAutocommit {}) }
}

fn all(conditions: impl IntoIterator<Item = BatchCond>) -> BatchCond {
    let mut conds: Vec<BatchCond> = conditions.into_iter().collect();
    match conds.len() {
        1 => conds.remove(0),
        _ => BatchCond::And(BatchCondList { conds }),
    }
}

#[cfg(test)]
mod tests {
    use libsql_hrana::proto::{BatchStreamResp, ExecuteStreamResp};
    use mt_core::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_write_whose_rows_cannot_be_understood_has_run() {
        let result = || {
            let rows = vec![proto::Row { values: vec![proto::Value::None] }];
            StmtResult { rows, ..StmtResult::default() }
        };
        let executed = || StreamResponse::Execute(ExecuteStreamResp { result: result() });
        let ran = || {
            let step_results = vec![Some(result())];
            let (step_errors, replication_index) = (vec![None], None);
            let result = BatchResult { step_results, step_errors, replication_index };
            StreamResponse::Batch(BatchStreamResp { result })
        };
        let results = |response| vec![StreamResult::Ok { response }];
        let script = Steps::script(&[Command::new("INSERT")]);
        for (effect, kind) in
            [(Effect::Reads, ErrorKind::Unavailable), (Effect::Writes, ErrorKind::OutcomeUnknown)]
        {
            let fault = read_execute(results(executed()), effect).unwrap_err();
            assert_eq!(Error::from(fault).kind(), kind);
            let fault = script.read(results(ran()), effect).unwrap_err();
            assert_eq!(Error::from(fault).kind(), kind);
        }
    }
}
