use std::{fmt, sync::Arc, time::Duration};

use mt_core::{DatabaseFactory, ErrorKind, FactoryContext, Result, Secret};
use mt_remote::Endpoint;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{NAME, PlatformLimits, TursoFactoryBuilder};

/// The settings of this provider, as they stand in a settings file. Written out, they are without
/// the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TursoConfig {
    /// The organization's slug; the user's, for a personal account. Required.
    pub organization: String,
    /// The group that new databases are made in. Required.
    pub group: String,
    /// A token of the platform API, such as a group's with the scopes `read`, `db:create`,
    /// `db:delete`, `db:configure` and `db:mint-token`. Required. It opens no database: those have
    /// tokens of their own, which this provider mints.
    #[serde(skip_serializing)]
    pub api_token: String,
    /// Where the platform API is. Plain http is for this machine only, and then the databases' own
    /// hosts are reached by http too. Default `https://api.turso.tech`.
    pub api_url: String,
    /// What every database's name starts with: `tenant-` makes `tenant-acme`. Default `tenant-`.
    pub database_prefix: String,
    /// Whether a new database is copied from a template that has the schema, instead of getting the
    /// schema in one request. The template is a database of its own and counts as one. Default no:
    /// copying takes the service longer than a request does.
    pub seed_from_template: bool,
    /// Whether one token opens every database of the group, instead of each its own. For thousands
    /// of tenants with no request for each. Default no.
    ///
    /// The price is two walls. The server no longer keeps tenants apart, only this provider does.
    /// And a handle that was open before goes on with whatever has the database's name: where
    /// somebody deletes the database behind this provider and another deployment makes it anew,
    /// that handle reads and writes the other's data. A handle that is opened afterwards finds
    /// out, by the stamp. With a token of its own the old handle is refused.
    pub group_tokens: bool,
    /// How long a database's token is good for, in seconds, 60 or more. It is renewed before that.
    /// Default 3,600.
    pub token_lifetime_s: u64,
    /// The most a new database may hold, such as `256mb`. Default: what the plan allows.
    pub size_limit: Option<String>,
    /// How long a connection may take, in milliseconds. Default 10,000.
    pub connect_timeout_ms: u64,
    /// How long a request to a database may take, in milliseconds. Default 30,000.
    pub request_timeout_ms: u64,
    /// How long an operation of the platform API may take, repetitions included, in milliseconds.
    /// Default 30,000.
    pub api_timeout_ms: u64,
    /// How long a transaction may take, in milliseconds. Default and most 4,500: the server takes
    /// the lock away after 5,000.
    pub transaction_timeout_ms: u64,
    /// How long a new database may take until it answers, in milliseconds. Default 15,000.
    pub ready_timeout_ms: u64,
    /// How long `deprovision` and `restore` wait for those who use the database, in milliseconds.
    /// Default 30,000.
    pub drain_timeout_ms: u64,
}

impl Default for TursoConfig {
    fn default() -> Self {
        Self {
            organization: String::new(),
            group: String::new(),
            api_token: String::new(),
            api_url: "https://api.turso.tech".to_owned(),
            database_prefix: "tenant-".to_owned(),
            seed_from_template: false,
            group_tokens: false,
            token_lifetime_s: 3_600,
            size_limit: None,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            api_timeout_ms: 30_000,
            transaction_timeout_ms: MAX_TRANSACTION_MS,
            ready_timeout_ms: 15_000,
            drain_timeout_ms: 30_000,
        }
    }
}

/// The server takes the lock from a transaction of five seconds that somebody waits for (sqld
/// 0.24.32). What is left is for the commit to get there.
const MAX_TRANSACTION_MS: u64 = 4_500;

impl TursoConfig {
    pub(crate) const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn api_limits(&self) -> PlatformLimits {
        let deadline = Duration::from_millis(self.api_timeout_ms);
        let limits = PlatformLimits::default().with_deadline(deadline);
        let request = limits.request_timeout.min(deadline);
        limits.with_request_timeout(request)
    }

    pub(crate) const fn transaction_timeout(&self) -> Duration {
        Duration::from_millis(self.transaction_timeout_ms)
    }

    pub(crate) const fn ready_timeout(&self) -> Duration {
        Duration::from_millis(self.ready_timeout_ms)
    }

    pub(crate) const fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    pub(crate) const fn token_lifetime(&self) -> Duration {
        Duration::from_secs(self.token_lifetime_s)
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
            ("organization", &self.organization, "the organization's slug"),
            ("group", &self.group, "the group that new databases are made in"),
            (
                "api_token",
                &self.api_token,
                "a token of the platform API, such as in MT_TURSO__API_TOKEN",
            ),
        ];
        let missing = required.iter().filter(|(_, value, _)| value.is_empty());
        let missing: Vec<String> =
            missing.map(|(name, _, what)| format!("`{name}` ({what})")).collect();
        if !missing.is_empty() {
            return Err(config_error(&format!("not set: {}", missing.join(", "))));
        }
        if self.api_token.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(config_error("`api_token` has white space in it"));
        }
        if self.size_limit.as_ref().is_some_and(String::is_empty) {
            return Err(config_error("`size_limit` is empty; leave it out for the plan's limit"));
        }
        if self.token_lifetime_s < 60 {
            return Err(config_error("`token_lifetime_s` is 60 or more"));
        }
        if self.transaction_timeout_ms == 0 || self.transaction_timeout_ms > MAX_TRANSACTION_MS {
            return Err(config_error(&format!(
                "`transaction_timeout_ms` is between 1 and {MAX_TRANSACTION_MS}: the server ends a transaction after 5,000"
            )));
        }
        Endpoint::new(&self.api_url)
            .map_err(|e| config_error("`api_url` cannot be used").with_source(e))
    }

    /// Reads settings from a URL: `turso://<organization>/<group>?database_prefix=t-`. Every other
    /// setting is a query parameter by its name, but the token: URLs end up in logs. Set
    /// `api_token` afterwards. A factory that is made from the URL alone takes
    /// it from the environment, `MT_TURSO__API_TOKEN`.
    ///
    /// # Errors
    /// `Config`: not this provider's scheme, a token, an unknown parameter or a value of the wrong
    /// kind.
    pub fn from_url(url: &Url) -> Result<Self> {
        let form = || {
            config_error("expected a URL of the form `turso://<organization>/<group>?<settings>`")
        };
        let group = url.path().trim_start_matches('/');
        let organization = url.host_str().unwrap_or_default();
        let has_more = url.port().is_some() || !url.username().is_empty() || group.contains('/');
        if url.scheme() != NAME || organization.is_empty() || group.is_empty() || has_more {
            return Err(form());
        }
        let mut settings = serde_json::Map::new();
        settings.insert("organization".to_owned(), organization.into());
        settings.insert("group".to_owned(), group.into());
        for (name, value) in url.query_pairs() {
            if name == "api_token" {
                return Err(config_error(&format!(
                    "`api_token` is a secret and not for a URL; give it in {TOKEN_VARIABLE}"
                )));
            }
            let text = ["database_prefix", "size_limit", "api_url"];
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
        serde_json::from_value(settings)
            .map_err(|e| config_error("the provider's settings are wrong").with_source(e))
    }
}

impl fmt::Debug for TursoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TursoConfig")
            .field("organization", &self.organization)
            .field("group", &self.group)
            .field("api_url", &self.api_url)
            .field("database_prefix", &self.database_prefix)
            .finish_non_exhaustive()
    }
}

pub(crate) fn config_error(message: &str) -> mt_core::Error {
    mt_core::Error::new(ErrorKind::Config, message).with_provider(NAME)
}

pub(crate) fn create(settings: Value, context: FactoryContext) -> Result<Arc<dyn DatabaseFactory>> {
    let config = TursoConfig::from_value(settings)?;
    let builder = TursoFactoryBuilder::default().with_config(config).with_context(context);
    Ok(Arc::new(builder.build()?))
}

/// Where the token is that a URL does not have.
const TOKEN_VARIABLE: &str = "MT_TURSO__API_TOKEN";

pub(crate) fn settings_from_url(url: &Url) -> Result<Value> {
    settings_with_token(url, std::env::var(TOKEN_VARIABLE).ok())
}

fn settings_with_token(url: &Url, token: Option<String>) -> Result<Value> {
    let mut settings = serde_json::to_value(TursoConfig::from_url(url)?)
        .map_err(|e| config_error("the provider's settings are wrong").with_source(e))?;
    if let (Some(token), Some(settings)) = (token, settings.as_object_mut()) {
        settings.insert("api_token".to_owned(), token.into());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<TursoConfig> {
        TursoConfig::from_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_url_says_what_a_settings_file_says() {
        let config = parse("turso://org/main?database_prefix=7&group_tokens=true").unwrap();
        assert_eq!((config.organization.as_str(), config.group.as_str()), ("org", "main"));
        assert_eq!((config.database_prefix.as_str(), config.api_token.as_str()), ("7", ""));
        assert!(config.group_tokens);
    }

    #[test]
    fn a_token_is_in_no_url_and_is_not_written_out() {
        let error = parse("turso://org/main?api_token=hunter2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_chain().contains("MT_TURSO__API_TOKEN"), "{}", error.to_chain());
        assert!(!error.to_chain().contains("hunter2"), "{}", error.to_chain());

        let url = Url::parse("turso://org/main").unwrap();
        let settings = settings_with_token(&url, Some("hunter2".to_owned())).unwrap();
        let config = TursoConfig::from_value(settings).unwrap();
        assert_eq!(config.api_token, "hunter2");
        config.check().unwrap();
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
        // Without one, the settings say what is missing and where it may stand.
        let config = TursoConfig::from_value(settings_with_token(&url, None).unwrap()).unwrap();
        let error = config.check().unwrap_err();
        assert!(error.to_chain().contains("MT_TURSO__API_TOKEN"), "{}", error.to_chain());
    }

    #[test]
    fn what_is_not_a_setting_is_refused() {
        for url in [
            "sqlite:data",
            "turso:org/main",
            "turso://org",
            "turso://org/main/more",
            "turso://user@org/main",
            "turso://org:80/main",
            "turso://org/main?colour=red",
            "turso://org/main?group=other",
            "turso://org/main?token_lifetime_s=long",
        ] {
            assert_eq!(parse(url).unwrap_err().kind(), ErrorKind::Config, "{url}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let good = TursoConfig {
            organization: "org".into(),
            group: "main".into(),
            api_token: "hunter2".into(),
            ..TursoConfig::default()
        };
        good.check().unwrap();
        assert!(!format!("{good:?}").contains("hunter2"));
        let error = TursoConfig::from_value(serde_json::json!({"api_token": 4711})).unwrap_err();
        assert!(error.to_chain().contains("api_token"), "{}", error.to_chain());
        assert!(!error.to_chain().contains("4711"), "{}", error.to_chain());
        type Change = fn(&mut TursoConfig);
        let wrong: [(Change, &str); 8] = [
            (|c| c.organization.clear(), "organization"),
            (|c| c.group.clear(), "group"),
            (|c| c.api_token.clear(), "api_token"),
            (|c| c.api_token.push('\n'), "api_token"),
            (|c| c.api_url = "http://example.com".into(), "api_url"),
            (|c| c.transaction_timeout_ms = 5_000, "transaction_timeout_ms"),
            (|c| c.token_lifetime_s = 1, "token_lifetime_s"),
            (|c| c.size_limit = Some(String::new()), "size_limit"),
        ];
        for (change, name) in wrong {
            let mut config = good.clone();
            change(&mut config);
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_chain().contains(name), "{}", error.to_chain());
            assert!(!error.to_chain().contains("hunter2"));
        }
    }
}
