//! Cloudflare's envelope, of answers that do not come from the worker.

use serde_json::{Value, json};

use crate::fault::{Canned, content_type};

/// An answer that is an error.
pub(crate) fn error(status: u16, code: u32, message: &str) -> Canned {
    let errors = [json!({"code": code, "message": message})];
    let body = json!({"result": null, "success": false, "errors": errors, "messages": []});
    canned(status, &body)
}

/// An answer that says success and has a statement that failed.
pub(crate) fn failed_result(statements: usize, index: usize, message: &str) -> Canned {
    let result: Vec<Value> = (0..statements.max(index + 1))
        .map(|at| match at == index {
            true => json!({"success": false, "error": message, "results": [], "meta": {}}),
            false => json!({
                "success": true,
                "results": {"columns": [], "rows": []},
                "meta": {"changes": 0, "last_row_id": 0, "rows_read": 0, "rows_written": 0},
            }),
        })
        .collect();
    canned(200, &json!({"result": result, "success": true, "errors": [], "messages": []}))
}

/// No database at all.
pub(crate) fn empty_list() -> Canned {
    let info = json!({"page": 1, "per_page": 100, "count": 0, "total_count": 0});
    let body =
        json!({"result": [], "success": true, "errors": [], "messages": [], "result_info": info});
    canned(200, &body)
}

fn canned(status: u16, body: &Value) -> Canned {
    let headers = vec![content_type("application/json")];
    Canned { status, headers, body: body.to_string() }
}
