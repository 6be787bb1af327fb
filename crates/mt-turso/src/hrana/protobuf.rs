//! The protocol's messages in Protobuf.
//!
//! `libsql-hrana` has the half that a server needs: it reads requests and writes answers. These
//! are the other halves. A message that it both reads and writes is a part of these as it is.

use bytes::Bytes;
use libsql_hrana::proto;
use mt_core::{Error, ErrorKind};
use mt_remote::Fault;
use prost::{Message, Oneof};

use super::fault;

#[derive(Message)]
struct PipelineRequest {
    #[prost(string, optional, tag = "1")]
    baton: Option<String>,
    #[prost(message, repeated, tag = "2")]
    requests: Vec<StreamRequest>,
}

#[derive(Message)]
struct CursorRequest {
    #[prost(string, optional, tag = "1")]
    baton: Option<String>,
    #[prost(message, optional, tag = "2")]
    batch: Option<Batch>,
}

#[derive(Message)]
struct StreamRequest {
    #[prost(oneof = "RequestKind", tags = "1, 2, 3")]
    kind: Option<RequestKind>,
}

#[derive(Oneof)]
enum RequestKind {
    #[prost(message, tag = "1")]
    Close(proto::CloseStreamReq),
    #[prost(message, tag = "2")]
    Execute(proto::ExecuteStreamReq),
    #[prost(message, tag = "3")]
    Batch(BatchRequest),
}

#[derive(Message)]
struct BatchRequest {
    #[prost(message, optional, tag = "1")]
    batch: Option<Batch>,
}

#[derive(Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    steps: Vec<Step>,
}

#[derive(Message)]
struct Step {
    #[prost(message, optional, tag = "1")]
    condition: Option<Condition>,
    #[prost(message, optional, tag = "2")]
    statement: Option<proto::Stmt>,
}

#[derive(Message)]
struct Condition {
    #[prost(oneof = "ConditionKind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<ConditionKind>,
}

#[derive(Oneof)]
enum ConditionKind {
    #[prost(uint32, tag = "1")]
    Ok(u32),
    #[prost(uint32, tag = "2")]
    Error(u32),
    #[prost(message, tag = "3")]
    Not(Box<Condition>),
    #[prost(message, tag = "4")]
    And(Conditions),
    #[prost(message, tag = "5")]
    Or(Conditions),
    #[prost(message, tag = "6")]
    IsAutocommit(IsAutocommit),
}

#[derive(Message)]
struct Conditions {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

#[derive(Message)]
struct IsAutocommit {}

#[derive(Message)]
struct PipelineAnswer {
    #[prost(string, optional, tag = "1")]
    baton: Option<String>,
    #[prost(string, optional, tag = "2")]
    base_url: Option<String>,
    #[prost(message, repeated, tag = "3")]
    results: Vec<StreamResult>,
}

#[derive(Message)]
struct StreamResult {
    #[prost(oneof = "ResultKind", tags = "1, 2")]
    kind: Option<ResultKind>,
}

#[derive(Oneof)]
enum ResultKind {
    #[prost(message, tag = "1")]
    Ok(StreamResponse),
    #[prost(message, tag = "2")]
    Error(proto::Error),
}

#[derive(Message)]
struct StreamResponse {
    #[prost(oneof = "ResponseKind", tags = "1, 2, 3")]
    kind: Option<ResponseKind>,
}

#[derive(Oneof)]
enum ResponseKind {
    #[prost(message, tag = "1")]
    Close(proto::CloseStreamResp),
    #[prost(message, tag = "2")]
    Execute(ExecuteResponse),
    #[prost(message, tag = "3")]
    Batch(BatchResponse),
}

#[derive(Message)]
struct ExecuteResponse {
    #[prost(message, optional, tag = "1")]
    result: Option<proto::StmtResult>,
}

#[derive(Message)]
struct BatchResponse {
    #[prost(message, optional, tag = "1")]
    result: Option<BatchResult>,
}

/// What became of the steps: maps from a step's place, as Protobuf writes maps.
#[derive(Message)]
struct BatchResult {
    #[prost(message, repeated, tag = "1")]
    results: Vec<StepResult>,
    #[prost(message, repeated, tag = "2")]
    errors: Vec<StepError>,
}

#[derive(Message)]
struct StepResult {
    #[prost(uint32, tag = "1")]
    step: u32,
    #[prost(message, optional, tag = "2")]
    result: Option<proto::StmtResult>,
}

#[derive(Message)]
struct StepError {
    #[prost(uint32, tag = "1")]
    step: u32,
    #[prost(message, optional, tag = "2")]
    error: Option<proto::Error>,
}

#[derive(Message)]
struct CursorEntry {
    #[prost(oneof = "EntryKind", tags = "1, 2, 3, 4, 5")]
    kind: Option<EntryKind>,
}

#[derive(Oneof)]
enum EntryKind {
    #[prost(message, tag = "1")]
    StepBegin(proto::StepBeginEntry),
    #[prost(message, tag = "2")]
    StepEnd(proto::StepEndEntry),
    #[prost(message, tag = "3")]
    StepError(proto::StepErrorEntry),
    #[prost(message, tag = "4")]
    Row(proto::Row),
    #[prost(message, tag = "5")]
    Error(proto::Error),
}

pub(super) fn write_pipeline(body: &proto::PipelineReqBody) -> Result<Bytes, Fault> {
    let requests = body.requests.iter().map(stream_request).collect::<Result<_, _>>()?;
    Ok(PipelineRequest { baton: body.baton.clone(), requests }.encode_to_vec().into())
}

pub(super) fn write_cursor(body: &proto::CursorReqBody) -> Bytes {
    let batch = Some(batch(&body.batch));
    CursorRequest { baton: body.baton.clone(), batch }.encode_to_vec().into()
}

/// The answer to `requests`.
pub(super) fn read_pipeline(
    bytes: Bytes,
    requests: &[proto::StreamRequest],
) -> Result<proto::PipelineRespBody, Fault> {
    let answer: PipelineAnswer = read(bytes)?;
    // What is no answer at all may still be read as one, of fields that nobody knows.
    if answer.results.len() != requests.len() {
        return Err(fault::garbled("an answer of another length"));
    }
    let results = answer.results.into_iter().zip(requests).map(|(result, request)| {
        let steps = match request {
            proto::StreamRequest::Batch(request) => request.batch.steps.len(),
            _ => 0,
        };
        stream_result(result, steps)
    });
    let results = results.collect::<Result<_, _>>()?;
    Ok(proto::PipelineRespBody { baton: answer.baton, base_url: answer.base_url, results })
}

pub(super) fn read_entry(frame: Bytes) -> Result<proto::CursorEntry, Fault> {
    let entry: CursorEntry = read(frame)?;
    Ok(match entry.kind {
        Some(EntryKind::StepBegin(entry)) => proto::CursorEntry::StepBegin(entry),
        Some(EntryKind::StepEnd(entry)) => proto::CursorEntry::StepEnd(entry),
        Some(EntryKind::StepError(entry)) => proto::CursorEntry::StepError(entry),
        Some(EntryKind::Row(row)) => proto::CursorEntry::Row { row },
        Some(EntryKind::Error(error)) => proto::CursorEntry::Error { error },
        None => proto::CursorEntry::None,
    })
}

pub(super) fn read<M: Message + Default>(bytes: Bytes) -> Result<M, Fault> {
    M::decode(bytes).map_err(fault::unreadable)
}

fn stream_request(request: &proto::StreamRequest) -> Result<StreamRequest, Fault> {
    let kind = match request {
        proto::StreamRequest::Close(_) => RequestKind::Close(proto::CloseStreamReq {}),
        proto::StreamRequest::Execute(request) => {
            RequestKind::Execute(proto::ExecuteStreamReq { stmt: request.stmt.clone() })
        }
        proto::StreamRequest::Batch(request) => {
            RequestKind::Batch(BatchRequest { batch: Some(batch(&request.batch)) })
        }
        proto::StreamRequest::None
        | proto::StreamRequest::Sequence(_)
        | proto::StreamRequest::Describe(_)
        | proto::StreamRequest::StoreSql(_)
        | proto::StreamRequest::CloseSql(_)
        | proto::StreamRequest::GetAutocommit(_) => {
            let what = "a request that has no form in protobuf here";
            return Err(Error::new(ErrorKind::Internal, what).into());
        }
    };
    Ok(StreamRequest { kind: Some(kind) })
}

fn batch(batch: &proto::Batch) -> Batch {
    let step = |step: &proto::BatchStep| Step {
        condition: step.condition.as_ref().map(condition),
        statement: Some(step.stmt.clone()),
    };
    Batch { steps: batch.steps.iter().map(step).collect() }
}

fn condition(cond: &proto::BatchCond) -> Condition {
    let all = |list: &proto::BatchCondList| Conditions {
        conditions: list.conds.iter().map(condition).collect(),
    };
    let kind = match cond {
        proto::BatchCond::None => None,
        proto::BatchCond::Ok { step } => Some(ConditionKind::Ok(*step)),
        proto::BatchCond::Error { step } => Some(ConditionKind::Error(*step)),
        proto::BatchCond::Not { cond } => Some(ConditionKind::Not(Box::new(condition(cond)))),
        proto::BatchCond::And(list) => Some(ConditionKind::And(all(list))),
        proto::BatchCond::Or(list) => Some(ConditionKind::Or(all(list))),
        proto::BatchCond::IsAutocommit {} => Some(ConditionKind::IsAutocommit(IsAutocommit {})),
    };
    Condition { kind }
}

/// `steps` is how many steps there were, if it was a batch.
fn stream_result(result: StreamResult, steps: usize) -> Result<proto::StreamResult, Fault> {
    let response = match result.kind {
        Some(ResultKind::Ok(response)) => response,
        Some(ResultKind::Error(error)) => return Ok(proto::StreamResult::Error { error }),
        None => return Ok(proto::StreamResult::None),
    };
    let missing = || fault::garbled("a response without its result");
    let response = match response.kind {
        Some(ResponseKind::Close(response)) => proto::StreamResponse::Close(response),
        Some(ResponseKind::Execute(response)) => {
            let result = response.result.ok_or_else(missing)?;
            proto::StreamResponse::Execute(proto::ExecuteStreamResp { result })
        }
        Some(ResponseKind::Batch(response)) => {
            let result = batch_result(response.result.ok_or_else(missing)?, steps)?;
            proto::StreamResponse::Batch(proto::BatchStreamResp { result })
        }
        None => return Ok(proto::StreamResult::None),
    };
    Ok(proto::StreamResult::Ok { response })
}

fn batch_result(result: BatchResult, steps: usize) -> Result<proto::BatchResult, Fault> {
    // In a map a value that is left out is an empty one.
    let results = result.results.into_iter().map(|e| (e.step, e.result.unwrap_or_default()));
    let errors = result.errors.into_iter().map(|e| (e.step, e.error.unwrap_or_default()));
    Ok(proto::BatchResult {
        step_results: in_places(results, steps)?,
        step_errors: in_places(errors, steps)?,
        replication_index: None,
    })
}

/// A map as a list of `count` places.
fn in_places<T>(
    entries: impl Iterator<Item = (u32, T)>,
    count: usize,
) -> Result<Vec<Option<T>>, Fault> {
    let mut places: Vec<Option<T>> = std::iter::repeat_with(|| None).take(count).collect();
    for (step, value) in entries {
        let place = usize::try_from(step).ok().and_then(|step| places.get_mut(step));
        *place.ok_or_else(|| fault::garbled("an answer to a step that was not asked"))? =
            Some(value);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use libsql_hrana::proto::{
        BatchCond, BatchCondList, BatchStep, BatchStreamReq, BatchStreamResp, CloseStreamReq,
        CloseStreamResp, ExecuteStreamReq, ExecuteStreamResp, Stmt, StmtResult, Value,
    };
    use serde_json::to_value;

    use super::*;

    fn values() -> Vec<Value> {
        vec![
            Value::Null,
            Value::Integer { value: i64::MIN },
            Value::Float { value: 0.1 + 0.2 },
            Value::Text { value: "é\0🦀".into() },
            Value::Blob { value: Bytes::from_static(&[0, 255]) },
        ]
    }

    fn requests() -> Vec<proto::StreamRequest> {
        let mut statement = Stmt::new("SELECT ?", true);
        statement.args = values();
        let list = |conds| BatchCondList { conds };
        let not = BatchCond::Not { cond: Box::new(BatchCond::IsAutocommit {}) };
        let any = BatchCond::Or(list(vec![BatchCond::Error { step: 0 }, not]));
        let all = BatchCond::And(list(vec![BatchCond::Ok { step: 7 }, any]));
        let step = |condition| BatchStep { condition, stmt: statement.clone() };
        let steps = vec![step(None), step(Some(all)), step(None)];
        let batch = proto::Batch { steps, replication_index: None };
        vec![
            proto::StreamRequest::Execute(ExecuteStreamReq { stmt: statement.clone() }),
            proto::StreamRequest::Batch(BatchStreamReq { batch }),
            proto::StreamRequest::Close(CloseStreamReq {}),
        ]
    }

    fn outcome(affected_row_count: u64) -> StmtResult {
        let rows = vec![proto::Row { values: values() }];
        StmtResult { affected_row_count, last_insert_rowid: Some(-3), rows, ..Default::default() }
    }

    fn error() -> proto::Error {
        proto::Error { message: "no".into(), code: "SQLITE_ERROR".into() }
    }

    fn answered(step_results: Vec<Option<StmtResult>>) -> proto::PipelineRespBody {
        let step_errors = vec![None, None, Some(error())];
        let batch = proto::BatchResult { step_results, step_errors, replication_index: None };
        let responses = [
            proto::StreamResponse::Execute(ExecuteStreamResp { result: outcome(1) }),
            proto::StreamResponse::Batch(BatchStreamResp { result: batch }),
            proto::StreamResponse::Close(CloseStreamResp {}),
        ];
        let results = responses.map(|response| proto::StreamResult::Ok { response });
        let base_url = Some("http://127.0.0.1".to_owned());
        proto::PipelineRespBody { baton: Some("baton".into()), base_url, results: results.into() }
    }

    #[test]
    fn a_server_reads_what_is_written() {
        let body = proto::PipelineReqBody { baton: Some("baton".into()), requests: requests() };
        let read = proto::PipelineReqBody::decode(write_pipeline(&body).unwrap()).unwrap();
        assert_eq!(to_value(&read).unwrap(), to_value(&body).unwrap());

        let Some(proto::StreamRequest::Batch(request)) = requests().into_iter().nth(1) else {
            panic!("the second is a batch");
        };
        let body = proto::CursorReqBody { baton: None, batch: request.batch };
        let read = proto::CursorReqBody::decode(write_cursor(&body)).unwrap();
        assert_eq!(to_value(&read).unwrap(), to_value(&body).unwrap());
    }

    #[test]
    fn what_a_server_writes_is_read() {
        let mut answer = answered(vec![Some(outcome(2)), None, None]);
        let read = read_pipeline(answer.encode_to_vec().into(), &requests()).unwrap();
        assert_eq!(to_value(&read).unwrap(), to_value(&answer).unwrap());

        answer.results[0] = proto::StreamResult::Error { error: error() };
        let read = read_pipeline(answer.encode_to_vec().into(), &requests()).unwrap();
        assert_eq!(to_value(&read).unwrap(), to_value(&answer).unwrap());

        let row = proto::Row { values: values() };
        let begin = proto::StepBeginEntry { step: 3, cols: vec![proto::Col::default()] };
        let end = proto::StepEndEntry { affected_row_count: 1, last_insert_rowid: Some(-1) };
        for entry in [
            proto::CursorEntry::StepBegin(begin),
            proto::CursorEntry::StepEnd(end),
            proto::CursorEntry::StepError(proto::StepErrorEntry { step: 1, error: error() }),
            proto::CursorEntry::Row { row },
            proto::CursorEntry::Error { error: error() },
        ] {
            let read = read_entry(entry.encode_to_vec().into()).unwrap();
            assert_eq!(to_value(&read).unwrap(), to_value(&entry).unwrap());
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        let more = answered(vec![None, None, None, Some(outcome(0))]);
        assert!(read_pipeline(more.encode_to_vec().into(), &requests()).is_err());
        for text in ["", "[{\"unexpected\":true}]", "<html></html>", "{\"error\":\"no\"}", "00"] {
            assert!(read_pipeline(Bytes::from(text), &requests()).is_err(), "{text}");
        }
    }
}
