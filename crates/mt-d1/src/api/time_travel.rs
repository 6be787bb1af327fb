//! States of a database that the service keeps, for 30 days (7 on the free plan).

use chrono::{DateTime, SecondsFormat, Utc};
use mt_core::Result;
use reqwest::Method;
use serde::Deserialize;
use url::Url;

use super::{Bookmark, D1Client, PointInTime, envelope::Success, transport::Request};

#[derive(Deserialize)]
struct Marked {
    bookmark: Bookmark,
}

#[derive(Deserialize)]
struct Restored {
    previous_bookmark: Bookmark,
}

impl D1Client {
    /// The current bookmark, or the one at or right before `at`.
    ///
    /// # Errors
    /// Those of [`D1Client`].
    pub async fn bookmark(&self, uuid: &str, at: Option<DateTime<Utc>>) -> Result<Bookmark> {
        let call = self.on_database("take a bookmark of", uuid)?;
        let mut url = self.url([uuid, "time_travel", "bookmark"]);
        if let Some(at) = at {
            append_time(&mut url, at);
        }
        let request = Request::idempotent(Method::GET, url);
        match self.transport().run(&call, &request, Success::<Marked>::needed).await {
            Ok(marked) => Ok(marked.bookmark),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }

    /// Takes a database back to `point`, in place; answers the bookmark that takes that back.
    ///
    /// Whatever runs on the database is cancelled. Not repeated once it may have taken effect: the
    /// second time would answer the bookmark of the first.
    ///
    /// # Errors
    /// Those of [`D1Client`]. `OutcomeUnknown`: the answer was lost.
    pub async fn restore_to(&self, uuid: &str, point: &PointInTime) -> Result<Bookmark> {
        let call = self.on_database("take back", uuid)?;
        let mut url = self.url([uuid, "time_travel", "restore"]);
        match point {
            PointInTime::Bookmark(Bookmark(bookmark)) => {
                url.query_pairs_mut().append_pair("bookmark", bookmark);
            }
            PointInTime::Timestamp(at) => append_time(&mut url, *at),
        }
        let request = Request::once(Method::POST, url);
        match self.transport().run(&call, &request, Success::<Restored>::needed).await {
            Ok(restored) => Ok(restored.previous_bookmark),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }
}

fn append_time(url: &mut Url, at: DateTime<Utc>) {
    let text = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    url.query_pairs_mut().append_pair("timestamp", &text);
}
