//! How much there may be of something at once.

use libtest_mimic::Failed;
use mt_d1::ApiLimits;
use serde_json::{Value, json};

use crate::cloud::{Cloud, ensure, learned, run};

/// How many databases a page may have. We ask for 100.
pub(crate) fn pages(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        for name in ["page-1", "page-2"] {
            cloud.make(name).await?;
        }
        let mut are_taken = Vec::new();
        for count in [100, 1_000, 10_000, 100_000] {
            let told = cloud.ask("GET", &format!("?page=1&per_page={count}"), Value::Null).await?;
            let answer = if told.is_success() {
                told.body["result_info"].to_string()
            } else {
                told.refusal()
            };
            learned(&format!("per_page={count}"), answer);
            are_taken.push(told.is_success());
        }
        let one = cloud.ask("GET", "?page=1&per_page=1", Value::Null).await?;
        learned("per_page=1", &one.body["result_info"]);
        let past = cloud.ask("GET", "?page=100000&per_page=100", Value::Null).await?;
        let answer = if past.is_success() { past.result().to_string() } else { past.refusal() };
        learned("a page past the last", answer);
        ensure(are_taken[0], || "per_page=100 is refused".to_owned())?;
        ensure(past.is_success(), || "the page after the last is refused".to_owned())
    })
}

/// How many statements a batch may have. A migration or a restore sends some hundreds.
pub(crate) fn statements(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let uuid = cloud.make("statements").await?;
        let mut most = 0;
        for count in [10_usize, 100, 500, 1_000, 2_000, 5_000, 10_000] {
            let batch: Vec<Value> =
                (0..count).map(|n| json!({ "sql": format!("SELECT {n}") })).collect();
            let told = cloud.raw(&uuid, json!({ "batch": batch })).await?;
            let answers = told.result().as_array().map(Vec::len);
            if !told.is_success() || answers != Some(count) {
                learned(&format!("a batch of {count}"), format!("{answers:?}, {}", told.refusal()));
                break;
            }
            most = count;
        }
        learned("the largest batch that was answered", most);
        ensure(most >= 500, || format!("a batch of more than {most} is not answered"))
    })
}

/// How long a request may be. Ours are as long as [`ApiLimits::request_bytes`] at most.
pub(crate) fn requests(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let uuid = cloud.make("requests").await?;
        let most = ApiLimits::default().request_bytes;
        // A little below, for what is around the values.
        let text = "x".repeat(1024 * 1024 - 1024);
        let mut longest = 0;
        for count in [1, 4, 8, most / (1024 * 1024), 32, 64] {
            let one = json!({ "sql": "SELECT length(?)", "params": [text] });
            let batch = vec![one; count];
            match cloud.raw(&uuid, json!({ "batch": batch })).await {
                Ok(told) if told.is_success() => longest = count,
                Ok(told) => {
                    learned(&format!("a request of {count} MiB"), told.refusal());
                    break;
                }
                Err(error) => {
                    learned(
                        &format!("a request of {count} MiB"),
                        error.message().unwrap_or_default(),
                    );
                    break;
                }
            }
        }
        learned("the longest request that was answered, in MiB", longest);
        ensure(longest * 1024 * 1024 >= most, || {
            format!("requests of {longest} MiB at most are answered, ours have up to {most} bytes")
        })
    })
}
