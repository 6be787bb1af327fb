use std::{fmt, sync::Arc, time::Duration};

use mt_core::{DatabaseFactory, ErrorKind, FactoryContext, Result, Secret};
use mt_remote::Endpoint;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{
    D1FactoryBuilder, NAME,
    api::ApiLimits,
    budget::{Budget, BudgetSettings},
};

/// The settings of this provider, as they stand in a settings file. Written out, they are without
/// the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct D1Config {
    /// The account that owns the databases: 32 hexadecimal digits. Required.
    pub account_id: String,
    /// A token of the account with the permission `D1 Edit`. Required. It opens every database of
    /// the account: D1 has no tokens for one database, and none that only reads one.
    #[serde(skip_serializing)]
    pub api_token: String,
    /// Where the service's API is. Plain http is for this machine only. Default: the service's.
    pub api_url: String,
    /// What every database's name starts with: `tenant_` makes `tenant_acme`. It has a character
    /// that no UUID has, so that a name is never taken for one. Default `tenant_`.
    pub database_prefix: String,
    /// Where the data of new databases must stay. The hint is of no effect then. Default: anywhere.
    pub jurisdiction: Option<Jurisdiction>,
    /// Where new databases should be. Default: near whoever makes them.
    pub primary_location_hint: Option<LocationHint>,
    /// How many requests the token may send in a window. Default 1,200, which is the service's
    /// limit; less leaves the rest to whoever else sends with the token.
    pub requests_per_window: u32,
    /// How long a window is, in seconds. Default 300, which is the service's.
    pub window_s: u64,
    /// How many requests may be under way to one database at once. Default 6: the
    /// service runs one query at a time for a database, and a few more hide the way there.
    pub database_concurrency: u32,
    /// How long a tenant's request may wait until the token's rate lets it go, in milliseconds.
    /// Default 10,000.
    pub queue_timeout_ms: u64,
    /// The same for the life of databases: making, migrating, copying, removing. Default 360,000,
    /// which outlasts the 300,000 for which the service refuses a token that asked too much.
    pub control_queue_timeout_ms: u64,
    /// How long a connection may take, in milliseconds. Default 10,000.
    pub connect_timeout_ms: u64,
    /// How long a request may take, in milliseconds. Default 35,000: the service gives up after
    /// 30,000.
    pub request_timeout_ms: u64,
    /// How long an operation may take, repetitions included and waiting for the rate not, in
    /// milliseconds. Default 60,000.
    pub operation_timeout_ms: u64,
    /// How long a new database may take until it answers, in milliseconds. Default 15,000.
    pub ready_timeout_ms: u64,
    /// How long `deprovision` and `restore` wait for those who use the database, in milliseconds.
    /// Default 30,000.
    pub drain_timeout_ms: u64,
    /// Whether the state before each change of a schema is kept as a bookmark of Time Travel: taken
    /// when the database is opened for maintenance, and remembered in the tenant's placement. One
    /// request more per tenant. Needs a placement store that can change. Default no.
    pub bookmark_before_migrations: bool,
}

/// Where data must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Jurisdiction {
    /// The European Union.
    Eu,
    /// Data centres that `FedRAMP` allows.
    FedRamp,
    /// The United States.
    Us,
}

impl Jurisdiction {
    /// As the service spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eu => "eu",
            Self::FedRamp => "fedramp",
            Self::Us => "us",
        }
    }
}

/// Where a database should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LocationHint {
    /// The west of North America.
    Wnam,
    /// The east of North America.
    Enam,
    /// The west of Europe.
    Weur,
    /// The east of Europe.
    Eeur,
    /// Asia and the Pacific.
    Apac,
    /// Oceania.
    Oc,
}

impl LocationHint {
    /// As the service spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wnam => "wnam",
            Self::Enam => "enam",
            Self::Weur => "weur",
            Self::Eeur => "eeur",
            Self::Apac => "apac",
            Self::Oc => "oc",
        }
    }
}

impl Default for D1Config {
    fn default() -> Self {
        Self {
            account_id: String::new(),
            api_token: String::new(),
            api_url: "https://api.cloudflare.com/client/v4".to_owned(),
            database_prefix: "tenant_".to_owned(),
            jurisdiction: None,
            primary_location_hint: None,
            requests_per_window: 1_200,
            window_s: 300,
            database_concurrency: 6,
            queue_timeout_ms: 10_000,
            control_queue_timeout_ms: 360_000,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 35_000,
            operation_timeout_ms: 60_000,
            ready_timeout_ms: 15_000,
            drain_timeout_ms: 30_000,
            bookmark_before_migrations: false,
        }
    }
}

/// How many digits an account's id has.
const ACCOUNT_DIGITS: usize = 32;
/// The longest window, in seconds.
const DAY_S: u64 = 24 * 60 * 60;

impl D1Config {
    pub(crate) fn budget(&self) -> Result<Arc<Budget>> {
        let settings = BudgetSettings {
            requests: self.requests_per_window,
            window: Duration::from_secs(self.window_s),
            database_concurrency: self.database_concurrency,
            ..BudgetSettings::default()
        };
        Budget::for_token(&self.api_url, &self.api_token(), settings)
    }

    pub(crate) fn limits(&self) -> ApiLimits {
        let milliseconds = Duration::from_millis;
        ApiLimits::default()
            .with_deadline(milliseconds(self.operation_timeout_ms))
            .with_request_timeout(milliseconds(self.request_timeout_ms))
            .with_longest_wait(milliseconds(self.queue_timeout_ms))
            .with_longest_control_wait(milliseconds(self.control_queue_timeout_ms))
    }

    pub(crate) const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) const fn ready_timeout(&self) -> Duration {
        Duration::from_millis(self.ready_timeout_ms)
    }

    pub(crate) const fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    pub(crate) fn api_token(&self) -> Secret {
        Secret::new(self.api_token.as_str())
    }

    /// Checks everything, and gives the API's address.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub(crate) fn check(&self) -> Result<Endpoint> {
        let required = [
            ("account_id", &self.account_id, "the account that owns the databases"),
            ("api_token", &self.api_token, "a token of the account, such as in MT_D1__API_TOKEN"),
        ];
        let missing = required.iter().filter(|(_, value, _)| value.is_empty());
        let missing: Vec<String> =
            missing.map(|(name, _, what)| format!("`{name}` ({what})")).collect();
        if !missing.is_empty() {
            return Err(config_error(&format!("not set: {}", missing.join(", "))));
        }
        let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if self.account_id.len() != ACCOUNT_DIGITS || !self.account_id.chars().all(is_digit) {
            return Err(config_error(&format!(
                "`account_id` is `{}`, expected 32 hexadecimal digits in lower case, as the \
                 dashboard shows them",
                self.account_id
            )));
        }
        if self.api_token.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(config_error("`api_token` has white space in it"));
        }
        if !self.database_prefix.chars().any(|c| !is_digit(c) && c != '-') {
            return Err(config_error(&format!(
                "`database_prefix` is `{}`, expected a character in it that no UUID has, as in \
                 `tenant_`: the service could take a name for an id",
                self.database_prefix
            )));
        }
        let positive = [
            ("requests_per_window", u64::from(self.requests_per_window)),
            ("database_concurrency", u64::from(self.database_concurrency)),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("request_timeout_ms", self.request_timeout_ms),
            ("operation_timeout_ms", self.operation_timeout_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(config_error(&format!("`{name}` is 0, expected 1 or more")));
        }
        if self.window_s == 0 || self.window_s > DAY_S {
            let found = self.window_s;
            return Err(config_error(&format!("`window_s` is {found}, expected 1 to {DAY_S}")));
        }
        Endpoint::new(&self.api_url)
            .map_err(|e| config_error("`api_url` cannot be used").with_source(e))
    }

    /// Reads settings from a URL: `d1://<account_id>?database_prefix=t_`. Every other setting is a
    /// query parameter by its name, but the token: URLs end up in logs. Set `api_token` afterwards.
    /// A factory that is made from the URL alone takes it from the environment, `MT_D1__API_TOKEN`.
    ///
    /// # Errors
    /// `Config`: not this provider's scheme, a token, an unknown parameter or a value of the wrong
    /// kind.
    pub fn from_url(url: &Url) -> Result<Self> {
        let account = url.host_str().unwrap_or_default();
        let has_more = url.port().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
            || !matches!(url.path(), "" | "/")
            || url.fragment().is_some();
        if url.scheme() != NAME || account.is_empty() || has_more {
            return Err(config_error("expected a URL of the form `d1://<account id>?<settings>`"));
        }
        let mut settings = serde_json::Map::new();
        settings.insert("account_id".to_owned(), account.into());
        for (name, value) in url.query_pairs() {
            if name == "api_token" {
                return Err(config_error(&format!(
                    "`api_token` is a secret and not for a URL; give it in {TOKEN_VARIABLE}"
                )));
            }
            let text = ["database_prefix", "api_url"];
            // `7` and `false` are JSON; anything else is text, and a prefix of digits is one too.
            let value = serde_json::from_str(&value)
                .ok()
                .filter(|value: &Value| value.is_number() || value.is_boolean())
                .filter(|_| !text.contains(&&*name))
                .unwrap_or_else(|| Value::String(value.into_owned()));
            if settings.insert(name.to_string(), value).is_some() {
                return Err(config_error(&format!("setting `{name}` is given twice")));
            }
        }
        Self::from_value(Value::Object(settings))
    }

    fn from_value(settings: Value) -> Result<Self> {
        // serde would repeat what it is in its error.
        if settings.get("api_token").is_some_and(|token| !token.is_string()) {
            let kind = <serde_json::Error as serde::de::Error>::custom("`api_token` is not a text");
            return Err(config_error("the provider's settings are wrong").with_source(kind));
        }
        Self::deserialize(&settings).map_err(|e| wrong(settings, e))
    }
}

impl fmt::Debug for D1Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("D1Config")
            .field("account_id", &self.account_id)
            .field("api_url", &self.api_url)
            .field("database_prefix", &self.database_prefix)
            .finish_non_exhaustive()
    }
}

/// Names the setting because of which `error` is told: serde tells what it expected, and not where.
fn wrong(settings: Value, error: serde_json::Error) -> mt_core::Error {
    // Each has a default, so that one alone is wrong by itself or not at all.
    let alone = |(name, value): (String, Value)| {
        let setting = Value::Object([(name.clone(), value)].into_iter().collect());
        D1Config::deserialize(setting).err().map(|e| (name, e))
    };
    let found = match settings {
        Value::Object(settings) => settings.into_iter().find_map(alone),
        _ => None,
    };
    match found {
        Some((name, error)) => {
            config_error(&format!("the provider's setting `{name}` is wrong")).with_source(error)
        }
        None => config_error("the provider's settings are wrong").with_source(error),
    }
}

pub(crate) fn config_error(message: &str) -> mt_core::Error {
    mt_core::Error::new(ErrorKind::Config, message).with_provider(NAME)
}

pub(crate) fn create(settings: Value, context: FactoryContext) -> Result<Arc<dyn DatabaseFactory>> {
    let config = D1Config::from_value(settings)?;
    let builder = D1FactoryBuilder::default().with_config(config).with_context(context);
    Ok(Arc::new(builder.build()?))
}

/// Where the token is that a URL does not have.
const TOKEN_VARIABLE: &str = "MT_D1__API_TOKEN";

pub(crate) fn settings_from_url(url: &Url) -> Result<Value> {
    settings_with_token(url, std::env::var(TOKEN_VARIABLE).ok())
}

fn settings_with_token(url: &Url, token: Option<String>) -> Result<Value> {
    let mut settings = serde_json::to_value(D1Config::from_url(url)?)
        .map_err(|e| config_error("the provider's settings are wrong").with_source(e))?;
    if let (Some(token), Some(settings)) = (token, settings.as_object_mut()) {
        settings.insert("api_token".to_owned(), token.into());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
