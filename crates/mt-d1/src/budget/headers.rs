//! What an answer's headers say of the rate, in the two forms that are in use.
//!
//! - `x-ratelimit-limit`, `x-ratelimit-remaining`, `x-ratelimit-reset`, `retry-after`;
//! - `ratelimit: "default";r=50;t=30` with `ratelimit-policy: "default";q=100;w=60`.
//!
//! They come from outside: what makes no sense is passed over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;

use super::settings::LONGEST_WINDOW;

/// What the service told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Requests in a window.
    pub(super) limit: Option<u32>,
    /// How long a window is.
    pub(super) window: Option<Duration>,
    /// Requests left in this window.
    pub(super) remaining: Option<u32>,
    /// When the window ends, from now.
    pub(super) reset: Option<Duration>,
    /// When to come again, from now.
    pub(super) retry_after: Option<Duration>,
}

/// The shortest that a refusal lasts.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The most that a limit is believed to be.
const LARGEST_LIMIT: u32 = 1_000_000;

impl Told {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let policy = slowest_policy(headers);
        let state = state_of(headers, policy.as_ref());
        let number = |name| one(headers, name).and_then(leading_number);
        let remaining = [number("x-ratelimit-remaining"), state.as_ref().and_then(|s| s.get("r"))];
        Self {
            limit: policy
                .as_ref()
                .and_then(|policy| policy.get("q"))
                .or_else(|| number("x-ratelimit-limit"))
                .and_then(small)
                .filter(|limit| (1..=LARGEST_LIMIT).contains(limit)),
            window: policy.as_ref().and_then(|policy| policy.get("w")).and_then(seconds),
            remaining: remaining.into_iter().flatten().min().and_then(small),
            reset: state
                .as_ref()
                .and_then(|state| state.get("t"))
                .and_then(seconds)
                .or_else(|| one(headers, "x-ratelimit-reset").and_then(time_from_now)),
            // "At once", or a time that is over: soon, and not by storm.
            retry_after: mt_remote::retry_after(headers)
                .and_then(|time| sensible(time.max(SHORTEST_PAUSE))),
        }
    }

    /// How long a refusal lasts, by what was told with it.
    pub(super) fn pause(&self, window: Duration) -> Duration {
        self.retry_after.or(self.reset).unwrap_or(window).min(window)
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The number that `text` starts with, and nothing longer than that number.
fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let rest = text[end..].trim_start();
    if !rest.is_empty() && !rest.starts_with([',', ';']) {
        return None;
    }
    text[..end].parse().ok()
}

fn small(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}

/// A time to wait; none at all, or an absurd one, is no news.
fn sensible(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero() && *time <= LONGEST_WINDOW)
}

fn seconds(number: u64) -> Option<Duration> {
    sensible(Duration::from_secs(number))
}

/// Seconds from now, or since 1970.
fn time_from_now(text: &str) -> Option<Duration> {
    /// A number above this is no wait but a time: the first day of 2001.
    const SINCE_1970: u64 = 978_307_200;
    let number = leading_number(text)?;
    if number < SINCE_1970 {
        return seconds(number);
    }
    let time = DateTime::from_timestamp(i64::try_from(number).ok()?, 0)?;
    sensible(time.signed_duration_since(Utc::now()).to_std().ok()?)
}

/// One entry of a list of named entries with parameters.
struct Entry<'a> {
    name: &'a str,
    parameters: Vec<&'a str>,
}

impl Entry<'_> {
    fn get(&self, key: &str) -> Option<u64> {
        self.parameters.iter().find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            (name.trim() == key).then(|| value.trim().parse().ok())?
        })
    }
}

fn entries<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Entry<'a>> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| split(text, ',')).map(|entry| {
        let mut parts = split(entry, ';').into_iter();
        Entry { name: parts.next().unwrap_or_default(), parameters: parts.collect() }
    })
}

/// The parts of `text` between separators outside quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
    .map(str::trim)
    .collect()
}

/// Of several policies the one that allows least in the long run.
fn slowest_policy(headers: &HeaderMap) -> Option<Entry<'_>> {
    let rate = |entry: &Entry<'_>| {
        let (quota, window) = (entry.get("q").and_then(small)?, entry.get("w").and_then(small)?);
        (quota > 0 && window > 0).then(|| f64::from(quota) / f64::from(window))
    };
    entries(headers, "ratelimit-policy")
        .filter_map(|entry| Some((rate(&entry)?, entry)))
        .min_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, entry)| entry)
}

/// What is left under `policy`, or, where none is named, the least.
fn state_of<'a>(headers: &'a HeaderMap, policy: Option<&Entry<'_>>) -> Option<Entry<'a>> {
    entries(headers, "ratelimit")
        .filter(|entry| policy.is_none_or(|policy| policy.name == entry.name))
        .filter_map(|entry| Some((entry.get("r")?, entry)))
        .min_by_key(|(left, _)| *left)
        .map(|(_, entry)| entry)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn told(lines: &[(&'static str, &str)]) -> Told {
        let lines = lines.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        Told::read(&headers)
    }

    const fn s(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn both_forms_are_read() {
        let classic = told(&[
            ("x-ratelimit-limit", "1200"),
            ("x-ratelimit-remaining", "7"),
            ("x-ratelimit-reset", "20"),
            ("retry-after", "17"),
        ]);
        let expected = Told {
            limit: Some(1_200),
            window: None,
            remaining: Some(7),
            reset: s(20),
            retry_after: s(17),
        };
        assert_eq!(classic, expected);
        assert_eq!(classic.pause(Duration::from_secs(300)), Duration::from_secs(17));
        assert_eq!(classic.pause(Duration::from_secs(3)), Duration::from_secs(3));

        let structured = told(&[
            ("ratelimit", "\"default\";r=50;t=30"),
            ("ratelimit-policy", "\"default\";q=100;w=60"),
        ]);
        let expected = Told {
            limit: Some(100),
            window: s(60),
            remaining: Some(50),
            reset: s(30),
            retry_after: None,
        };
        assert_eq!(structured, expected);
        assert_eq!(structured.pause(Duration::from_secs(60)), Duration::from_secs(30));
        assert_eq!(Told::default().pause(Duration::from_secs(60)), Duration::from_secs(60));
    }

    #[test]
    fn of_several_policies_the_slowest_counts() {
        let told = told(&[
            ("ratelimit-policy", "\"a;b, c\";q=20;w=1, \"long\" ; q=1200 ; w=300"),
            ("ratelimit", "\"a;b, c\";r=3;t=1"),
            ("ratelimit", "\"long\";r=900;t=200"),
        ]);
        assert_eq!((told.limit, told.window), (Some(1_200), s(300)));
        assert_eq!((told.remaining, told.reset), (Some(900), s(200)));
    }

    #[test]
    fn a_time_may_be_a_date() {
        let later = Utc::now() + TimeDelta::seconds(90);
        let http = later.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let told = told(&[
            ("retry-after", http.as_str()),
            ("x-ratelimit-reset", later.timestamp().to_string().as_str()),
        ]);
        for wait in [told.retry_after, told.reset] {
            assert!((85..=90).contains(&wait.unwrap().as_secs()), "{wait:?}");
        }
    }

    #[test]
    fn a_window_that_is_over_is_no_news() {
        let gone = (Utc::now() - TimeDelta::seconds(90)).timestamp().to_string();
        assert_eq!(told(&[("x-ratelimit-reset", gone.as_str())]), Told::default());
    }

    #[test]
    fn whoever_may_come_again_at_once_waits_a_second() {
        let gone = Utc::now() - TimeDelta::days(400);
        let http = gone.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        for text in ["0", http.as_str()] {
            let told = told(&[("retry-after", text), ("x-ratelimit-reset", "200")]);
            assert_eq!(told.retry_after, s(1), "{text}");
            assert_eq!(told.pause(Duration::from_secs(300)), Duration::from_secs(1), "{text}");
        }
    }

    #[test]
    fn nonsense_is_passed_over() {
        let nonsense =
            ["", "-1", "x", "1e9", "99999999999999999999", "1 2", "\"", "=;=,;\";r=1", "3.5", "é"];
        let names = [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "retry-after",
            "ratelimit",
            "ratelimit-policy",
        ];
        for name in names {
            for text in nonsense {
                assert_eq!(told(&[(name, text)]), Told::default(), "{name}: {text}");
            }
        }
        let zero = told(&[("x-ratelimit-reset", "0"), ("x-ratelimit-limit", "0")]);
        assert_eq!(zero, Told::default());
        let absurd = told(&[("ratelimit-policy", "a;q=0;w=9"), ("ratelimit", "a;r=x;t=-1")]);
        assert_eq!(absurd, Told::default());
    }
}
