//! One budget for each token in this process.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    iter,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use mt_core::{Error, ErrorKind, Result, Secret};
use mt_remote::Endpoint;

use super::{Budget, BudgetSettings};
use crate::NAME;

/// Budgets in use. The tokens are not in it, only hashes that mean nothing outside this process; two
/// tokens of one hash would share a budget, which is slower but right.
static BUDGETS: LazyLock<Budgets> = LazyLock::new(Budgets::default);

#[derive(Default)]
struct Budgets {
    hasher: RandomState,
    by_token: Mutex<HashMap<u64, Weak<Budget>>>,
}

impl Budget {
    /// The budget of `token` at `endpoint`, the API's URL: the same for everybody in this process
    /// who uses that token, however they write that URL. Where their settings differ, the stricter
    /// holds for all.
    ///
    /// # Errors
    /// `Config`: a setting lets nothing through, or `endpoint` is no URL for requests with a token.
    pub fn for_token(
        endpoint: &str,
        token: &Secret,
        settings: BudgetSettings,
    ) -> Result<Arc<Self>> {
        settings.check()?;
        let endpoint = Endpoint::new(endpoint).map_err(|e| {
            let message = "the API's URL cannot be used for a rate budget";
            Error::new(ErrorKind::Config, message).with_provider(NAME).with_source(e)
        })?;
        // What requests are sent to: a slash at its end makes no difference.
        let url = endpoint.join(iter::empty());
        let key = BUDGETS.hasher.hash_one((url.as_str(), token.expose()));
        let mut by_token = BUDGETS.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = by_token.get(&key).and_then(Weak::upgrade) {
            budget.tighten(&settings);
            return Ok(budget);
        }
        by_token.retain(|_, budget| budget.strong_count() > 0);
        let budget = Arc::new(Self::new(settings)?);
        by_token.insert(key, Arc::downgrade(&budget));
        Ok(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_budget() {
        let token = |text: &str| Secret::new(format!("a-token-has-one-budget-{text}"));
        let get = |endpoint: &str, text| {
            Budget::for_token(endpoint, &token(text), BudgetSettings::default()).unwrap()
        };
        let one = "https://one.example/client/v4";
        let first = get(one, "a");
        for same in [
            one,
            "https://one.example/client/v4/",
            "HTTPS://One.Example:443/client/v4",
            "https://one.example/client/./v4/",
        ] {
            assert!(Arc::ptr_eq(&first, &get(same, "a")), "{same}");
        }
        assert!(!Arc::ptr_eq(&first, &get(one, "b")));
        for other in ["https://two.example/client/v4", "https://one.example/client/v5"] {
            assert!(!Arc::ptr_eq(&first, &get(other, "a")), "{other}");
        }
        assert!(!format!("{first:?}").contains("a-token"));

        let gone = Arc::downgrade(&first);
        drop(first);
        assert!(gone.upgrade().is_none());
        get(one, "a");
    }

    #[test]
    fn the_url_must_be_one_for_a_token() {
        for url in ["", "one.example", "http://one.example", "https://user:word@one.example"] {
            let token = Secret::new("the-url-must-be-one-for-a-token");
            let error = Budget::for_token(url, &token, BudgetSettings::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        }
    }

    #[test]
    fn the_stricter_setting_holds_for_all() {
        let token = Secret::new("the-stricter-setting-holds-for-all");
        let get = |requests| {
            let settings = BudgetSettings { requests, ..BudgetSettings::default() };
            Budget::for_token("https://one.example", &token, settings)
        };
        let first = get(600).unwrap();
        let second = get(1_200).unwrap();
        assert_eq!(second.usage().limit, 600);
        let third = get(240).unwrap();
        assert_eq!((first.usage().limit, third.usage().limit), (240, 240));
        assert!(get(0).is_err());
    }
}
