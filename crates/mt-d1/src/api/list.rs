//! Lists that come in pages, of databases that come and go meanwhile.

use std::collections::{HashSet, VecDeque};

use reqwest::Method;
use url::Url;

use super::{
    D1Client, Database,
    envelope::{PageInfo, Success},
    error::Cause,
    transport::{Call, Request},
};

/// How many databases are asked for at once. The most that the service gives is not documented, so
/// a page that has fewer is not taken for the last.
const PAGE: usize = 100;

/// How often the whole list is read at most, while it changes under the reader.
const MAX_PASSES: usize = 3;

/// A list on its way.
pub(super) struct Listing {
    client: D1Client,
    prefix: String,
    /// What the service is asked to narrow the list to.
    name: Option<String>,
    /// Whether narrowing was seen to keep a name that is longer: then it is no exact match.
    is_proved: bool,
    pass: Pass,
    passes: usize,
    given: HashSet<String>,
    ready: VecDeque<Database>,
    is_over: bool,
}

/// The pages from the first to the last.
#[derive(Default)]
struct Pass {
    page: usize,
    total: Option<usize>,
    seen: HashSet<String>,
    news: usize,
    /// Databases were deleted before those that were still to come, which moved up.
    is_shifted: bool,
}

impl Listing {
    /// The databases whose name starts with `prefix`.
    pub(super) fn starting(client: &D1Client, prefix: &str) -> Self {
        Self {
            client: client.clone(),
            prefix: prefix.to_owned(),
            name: (!prefix.is_empty()).then(|| prefix.to_owned()),
            is_proved: false,
            pass: Pass::default(),
            passes: 0,
            given: HashSet::new(),
            ready: VecDeque::new(),
            is_over: false,
        }
    }

    /// The databases among which is that of this name, if there is one.
    pub(super) fn named(client: &D1Client, name: &str) -> Self {
        Self { is_proved: true, ..Self::starting(client, name) }
    }

    /// The next database, if there is one more.
    pub(super) async fn next(&mut self, call: &Call) -> Result<Option<Database>, Cause> {
        loop {
            if let Some(database) = self.ready.pop_front() {
                return Ok(Some(database));
            }
            if self.is_over {
                return Ok(None);
            }
            self.turn(call).await?;
        }
    }

    async fn turn(&mut self, call: &Call) -> Result<(), Cause> {
        let request = Request::idempotent(Method::GET, self.url());
        let read = |answer: Success<Vec<Database>>| {
            let info = answer.page.unwrap_or_default();
            answer.needed().map(|page| (page, info))
        };
        let (page, info) = self.client.transport().run(call, &request, read).await?;
        let is_last = self.pass.take(&page, info);
        for database in page {
            if self.given.insert(database.uuid.clone()) {
                self.pass.news += 1;
                if let Some(rest) = database.name.strip_prefix(&self.prefix) {
                    self.is_proved |= !rest.is_empty();
                    self.ready.push_back(database);
                }
            }
        }
        if is_last {
            self.turn_over();
        }
        Ok(())
    }

    /// Ends the list, unless there may be more.
    fn turn_over(&mut self) {
        let pass = std::mem::take(&mut self.pass);
        self.passes += 1;
        if self.name.is_some() && !self.is_proved {
            // Whether `name` is matched exactly is not documented, and a list cut short would look
            // complete.
            self.name = None;
            self.passes = 0;
            return;
        }
        // Of how many it is the total is told only of the whole list.
        let is_short = self.name.is_none() && pass.total.is_some_and(|t| pass.seen.len() < t);
        let may_have_more = (pass.is_shifted || is_short) && pass.news > 0;
        self.is_over = !may_have_more || self.passes == MAX_PASSES;
    }

    fn url(&self) -> Url {
        let mut url = self.client.url([]);
        let mut query = url.query_pairs_mut();
        query.append_pair("page", &(self.pass.page + 1).to_string());
        query.append_pair("per_page", &PAGE.to_string());
        if let Some(name) = &self.name {
            query.append_pair("name", name);
        }
        drop(query);
        url
    }
}

impl Pass {
    /// Notes a page; whether it was the last.
    fn take(&mut self, page: &[Database], info: PageInfo) -> bool {
        self.page += 1;
        if let Some(total) = info.total_count {
            self.is_shifted |= self.total.is_some_and(|before| total < before);
            self.total = Some(total);
        }
        let before = self.seen.len();
        self.seen.extend(page.iter().map(|database| database.uuid.clone()));
        let is_old = self.seen.len() == before;
        let is_short = info.per_page.is_some_and(|most| page.len() < most);
        let is_all = self.total.is_some_and(|total| self.seen.len() >= total);
        is_old || (is_short && is_all)
    }
}
