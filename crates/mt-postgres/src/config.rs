use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr as _, sync::Arc, time::Duration};

use mt_core::{DatabaseFactory, ErrorKind, FactoryContext, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::{NAME, PostgresFactoryBuilder};

/// The settings of this provider, as they stand in a settings file. Written out, they are without
/// the secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// How the server is reached by a role that may make databases and roles (`CREATEDB` and
    /// `CREATEROLE`, or a superuser): `postgres://user:password@host:port/database`, or a folder of
    /// a socket as the host, with `%2F` for each `/`. Secret. Required.
    ///
    /// Parameters are libpq's: `sslmode`, `sslrootcert` and their like. A server that is not this
    /// machine is reached with `verify-full` unless `sslmode` says otherwise.
    #[serde(skip_serializing)]
    pub admin_url: String,
    /// What the passwords of all tenants' roles are derived from, 16 characters or more. Secret.
    /// Required. Whoever has it and reaches the server reaches every tenant's database.
    #[serde(skip_serializing)]
    pub role_secret: String,
    /// What every database's name starts with: `tenant_` makes `tenant_acme`. Default `tenant_`.
    pub database_prefix: String,
    /// The most connections to one tenant's database for requests, and as many again for those that
    /// only read. They are opened as they are needed, and closed when another tenant needs their
    /// place or after a minute without use. Default 4.
    pub max_connections: u32,
    /// The most connections of all tenants together for their requests, in this process. Default:
    /// what the server takes, without 20 for administration, migrations and others. Where several
    /// processes share the server, each has a share of that.
    pub connection_budget: Option<usize>,
    /// How many finished databases are kept in advance, for `provision` to claim: it takes a
    /// millisecond instead of a tenth of a second then. Each takes 8 MB. They are made in the
    /// background by a process that stays. Default 0.
    pub spare_databases: u32,
    /// How long a connection may take, and how long a request waits for one, in milliseconds.
    /// Default 5,000.
    pub acquire_timeout_ms: u64,
    /// How long a statement of a tenant's requests may run, in milliseconds; 0 is no limit. Default
    /// 30,000. Migrations have none.
    pub statement_timeout_ms: u64,
    /// How long a migration waits for a lock that others hold, in milliseconds; 0 is no limit.
    /// Whoever comes after it waits behind it. It is given up then, taken back, and can be repeated.
    /// Default 3,000.
    pub lock_timeout_ms: u64,
    /// How long `deprovision` and `restore` wait for those who use the database, and for whoever else
    /// is at one of them, in milliseconds. Default 30,000.
    pub drain_timeout_ms: u64,
    /// The folder with `pg_dump` and `pg_restore`, for backups and restores: of the server's version,
    /// or newer. Default: found in `PATH`, or where Debian's packages put them.
    pub client_programs: Option<PathBuf>,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            admin_url: String::new(),
            role_secret: String::new(),
            database_prefix: "tenant_".to_owned(),
            max_connections: 4,
            connection_budget: None,
            spare_databases: 0,
            acquire_timeout_ms: 5_000,
            statement_timeout_ms: 30_000,
            lock_timeout_ms: 3_000,
            drain_timeout_ms: 30_000,
            client_programs: None,
        }
    }
}

/// Shorter ones are guessed.
const SECRET_CHARS: usize = 16;

impl PostgresConfig {
    pub(crate) const fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }

    pub(crate) const fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// Checks everything, and tells how the server is reached.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub(crate) fn check(&self) -> Result<PgConnectOptions> {
        let required = [
            ("admin_url", &self.admin_url, "MT_POSTGRES__ADMIN_URL"),
            ("role_secret", &self.role_secret, "MT_POSTGRES__ROLE_SECRET"),
        ];
        let missing = required.iter().filter(|(_, value, _)| value.is_empty());
        let missing: Vec<String> =
            missing.map(|(name, _, variable)| format!("`{name}` ({variable})")).collect();
        if !missing.is_empty() {
            return Err(config_error(&format!("not set: {}", missing.join(", "))));
        }
        if self.role_secret.chars().count() < SECRET_CHARS {
            return Err(config_error(&format!(
                "`role_secret` is {SECRET_CHARS} characters or more, such as `openssl rand -hex 32` tells"
            )));
        }
        for (name, value) in [
            ("max_connections", u64::from(self.max_connections)),
            ("acquire_timeout_ms", self.acquire_timeout_ms),
            ("connection_budget", self.connection_budget.unwrap_or(1) as u64),
        ] {
            if value == 0 {
                return Err(config_error(&format!("`{name}` is 1 or more")));
            }
        }
        if self.client_programs.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            return Err(config_error(
                "`client_programs` is no folder with its whole path, such as /usr/lib/postgresql/18/bin",
            ));
        }
        self.server()
    }

    fn server(&self) -> Result<PgConnectOptions> {
        let wrong = |what: &str| config_error(&format!("`admin_url` {what}"));
        let form = "is not of the form `postgres://user:password@host:port/database`";
        // What is wrong with it is not told in its parser's words: they may repeat a part of it.
        let url = Url::parse(&self.admin_url).map_err(|_secret| wrong(form))?;
        if !["postgres", "postgresql"].contains(&url.scheme()) || url.username().is_empty() {
            return Err(wrong(form));
        }
        let options = PgConnectOptions::from_str(&self.admin_url).map_err(|_secret| wrong(form))?;
        let says = |name: &str| url.query_pairs().any(|(key, _)| key == name);
        if is_here(options.get_host()) || options.get_socket().is_some() || says("sslmode") {
            return Ok(options);
        }
        Ok(options.ssl_mode(PgSslMode::VerifyFull))
    }

    fn from_value(settings: Value) -> Result<Self> {
        // serde would repeat what it is in its error.
        for name in ["admin_url", "role_secret"] {
            if settings.get(name).is_some_and(|secret| !secret.is_string()) {
                let error = format!("the provider's settings are wrong: `{name}` is not a text");
                return Err(config_error(&error));
            }
        }
        serde_json::from_value(settings)
            .map_err(|e| config_error("the provider's settings are wrong").with_source(e))
    }
}

fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("database_prefix", &self.database_prefix)
            .field("max_connections", &self.max_connections)
            .field("connection_budget", &self.connection_budget)
            .finish_non_exhaustive()
    }
}

pub(crate) fn config_error(message: &str) -> mt_core::Error {
    mt_core::Error::new(ErrorKind::Config, message).with_provider(NAME)
}

pub(crate) fn create(settings: Value, context: FactoryContext) -> Result<Arc<dyn DatabaseFactory>> {
    let config = PostgresConfig::from_value(settings)?;
    let builder = PostgresFactoryBuilder::default().with_config(config).with_context(context);
    Ok(Arc::new(builder.build()?))
}

/// A URL of this provider is how the server is reached.
pub(crate) fn settings_from_url(url: &Url) -> Result<Value> {
    Ok(serde_json::json!({ "admin_url": url.as_str() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PostgresConfig {
        PostgresConfig {
            admin_url: "postgres://admin:hunter2@db.example/postgres".to_owned(),
            role_secret: "0123456789abcdef".to_owned(),
            ..PostgresConfig::default()
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_told() {
        config().check().unwrap();
        type Break = fn(&mut PostgresConfig);
        let breaks: [(Break, &str); 9] = [
            (|c| c.client_programs = Some("bin".into()), "`client_programs`"),
            (|c| c.admin_url.clear(), "MT_POSTGRES__ADMIN_URL"),
            (|c| c.role_secret.clear(), "MT_POSTGRES__ROLE_SECRET"),
            (|c| c.role_secret.truncate(15), "`role_secret`"),
            (|c| c.max_connections = 0, "`max_connections`"),
            (|c| c.connection_budget = Some(0), "`connection_budget`"),
            (|c| c.acquire_timeout_ms = 0, "`acquire_timeout_ms`"),
            (|c| c.admin_url = "mysql://u:hunter2@h/d".to_owned(), "`admin_url`"),
            (|c| c.admin_url = "postgres://u:hunter2@h:port/d".to_owned(), "`admin_url`"),
        ];
        for (spoil, name) in breaks {
            let mut config = config();
            spoil(&mut config);
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let told = error.to_chain();
            assert!(told.contains(name) && !told.contains("hunter2"), "{told}");
        }
        let shown = format!("{:?} {}", config(), serde_json::to_string(&config()).unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("0123456789"), "{shown}");
        let settings = serde_json::json!({ "admin_url": 7, "role_secret": "hunter2" });
        let told = PostgresConfig::from_value(settings).unwrap_err().to_chain();
        assert!(told.contains("`admin_url`") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn another_machine_is_reached_by_tls_unless_it_is_said_otherwise() {
        let mode = |url: &str| {
            let options = PostgresConfig { admin_url: url.to_owned(), ..config() }.check().unwrap();
            format!("{:?}", options.get_ssl_mode())
        };
        for url in ["postgres://a:b@db.example/p", "postgres://a:b@10.0.0.1/p"] {
            assert_eq!(mode(url), "VerifyFull", "{url}");
        }
        for url in [
            "postgres://a:b@localhost/p",
            "postgres://a:b@127.0.0.1/p",
            "postgres://a:b@[::1]:5432/p",
            "postgres://a:b@%2Frun%2Fpostgresql/p",
        ] {
            assert_eq!(mode(url), "Prefer", "{url}");
        }
        assert_eq!(mode("postgres://a:b@db.example/p?sslmode=require"), "Require");
    }
}
