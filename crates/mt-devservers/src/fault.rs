//! What goes wrong on purpose, and when: rules for the faults of any server.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::call::Call;

pub(crate) fn content_type(value: &str) -> (String, String) {
    ("content-type".to_owned(), value.to_owned())
}

/// A page of HTML, as proxies answer.
pub(crate) fn html(status: u16) -> Canned {
    let body = format!("<html><body><h1>{status} from a proxy</h1></body></html>\n");
    Canned { status, headers: vec![content_type("text/html")], body }
}

/// An answer made beforehand.
#[derive(Clone, Debug)]
pub struct Canned {
    /// HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// As it is sent.
    pub body: String,
}

/// Which requests meet a fault, and how many of them. By default each and always.
#[derive(Clone, Debug)]
#[must_use = "a rule does nothing until it is added"]
pub struct Rule<F> {
    fault: F,
    method: Option<String>,
    path: Option<String>,
    database: Option<String>,
    pub(crate) kind: Option<&'static str>,
    skip: u64,
    times: Option<u64>,
    time: Option<Duration>,
}

impl<F> Rule<F> {
    /// A rule for every request.
    pub fn new(fault: F) -> Self {
        let (method, path, database, kind) = (None, None, None, None);
        Self { fault, method, path, database, kind, skip: 0, times: None, time: None }
    }

    /// Only requests with this method.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Only requests with `part` in their path (the query is none of it).
    pub fn path(mut self, part: impl Into<String>) -> Self {
        self.path = Some(part.into());
        self
    }

    /// Only requests that mean this database; on D1 by its name or its uuid.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// Leaves the first `count` of them alone.
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// At most `count` of them.
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    /// Only within so much time after the rule was added.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    fn matches(&self, call: &Call) -> bool {
        self.method.as_ref().is_none_or(|method| *method == call.method)
            && self.path.as_ref().is_none_or(|part| call.path.contains(part))
            && self.database.as_ref().is_none_or(|database| call.means(database))
            && (self.kind.is_none() || self.kind == call.kind)
    }
}

/// How often a rule has struck.
#[derive(Clone, Debug, Default)]
pub struct Hits(Arc<AtomicU64>);

impl Hits {
    /// So often until now.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The rules of one plane. When several match, the one that was added first strikes.
#[derive(Clone, Debug)]
pub struct Faults<F> {
    rules: Arc<Mutex<Vec<Active<F>>>>,
}

impl<F> Default for Faults<F> {
    fn default() -> Self {
        Self { rules: Arc::default() }
    }
}

#[derive(Debug)]
struct Active<F> {
    rule: Rule<F>,
    since: Instant,
    seen: u64,
    hits: Hits,
}

impl<F: Clone> Faults<F> {
    /// Puts a rule in force; what is returned tells how often it struck, also after
    /// [`Faults::clear`].
    pub fn add(&self, rule: Rule<F>) -> Hits {
        let hits = Hits::default();
        self.rules().push(Active { rule, since: Instant::now(), seen: 0, hits: hits.clone() });
        hits
    }

    /// Takes all rules back.
    pub fn clear(&self) {
        self.rules().clear();
    }

    /// What happens to this request.
    pub(crate) fn strike(&self, call: &Call) -> Option<F> {
        self.rules().iter_mut().find_map(|active| active.strike(call))
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Active<F>>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Clone> Active<F> {
    fn strike(&mut self, call: &Call) -> Option<F> {
        let Self { rule, since, seen, hits } = self;
        if !rule.matches(call) || rule.time.is_some_and(|time| since.elapsed() > time) {
            return None;
        }
        if *seen < rule.skip {
            *seen += 1;
            return None;
        }
        if rule.times.is_some_and(|times| hits.count() >= times) {
            return None;
        }
        hits.0.fetch_add(1, Ordering::SeqCst);
        Some(rule.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, path: &str, database: &str) -> Call {
        let [method, path] = [method, path].map(str::to_owned);
        Call { method, path, database: Some(database.to_owned()), id: None, kind: None }
    }

    #[test]
    fn a_rule_strikes_what_it_means_and_as_often_as_it_says() {
        let faults = Faults::default();
        let rule = Rule::new("torn").method("POST").path("/tokens").database("a");
        let hits = faults.add(rule.skip(1).times(2));
        for (method, path, database) in
            [("GET", "/x/tokens", "a"), ("POST", "/x", "a"), ("POST", "/x/tokens", "b")]
        {
            assert!(faults.strike(&call(method, path, database)).is_none());
        }
        let meant = call("POST", "/x/tokens", "a");
        let struck = [(); 5].map(|()| faults.strike(&meant).is_some());
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!(hits.count(), 2);
    }

    #[test]
    fn a_rule_ends_with_its_time() {
        let faults = Faults::default();
        let hits = faults.add(Rule::new("torn").lasting(Duration::ZERO));
        std::thread::sleep(Duration::from_millis(1));
        assert!(faults.strike(&call("GET", "/", "a")).is_none());
        faults.add(Rule::new("torn"));
        assert!(faults.strike(&call("GET", "/", "a")).is_some());
        faults.clear();
        assert!(faults.strike(&call("GET", "/", "a")).is_none());
        assert_eq!(hits.count(), 0);
    }
}
