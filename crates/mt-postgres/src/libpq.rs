//! What PostgreSQL's own programs are told: how the server is reached, and as whom.
//!
//! It stands in their environment and in files of a folder that only we can read, never in their
//! arguments, which everybody on the machine can read. Of our own environment they see only what
//! they need to run.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mt_core::Secret;
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    admin::DURABLE,
    error::{Error, Result},
};

/// What a program needs of our environment to run at all.
const KEPT: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SystemRoot", "TMPDIR"];
const PEM_LINE: usize = 64;

/// The surroundings of programs that work on one database as one role.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Removed with this value.
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Surroundings {
    /// Prepares them for `role` in `database` on the server that `server` reaches.
    pub(crate) async fn prepare(
        server: &PgConnectOptions,
        database: &str,
        role: &str,
        password: Secret,
        timeout: Duration,
    ) -> Result<Self> {
        let server = server.clone().options(DURABLE);
        let mut variables = connection(&server, timeout);
        variables.extend([("PGDATABASE", database.to_owned()), ("PGUSER", role.to_owned())]);
        let make = move || {
            let folder = private_folder()?;
            // Any server: there is one that these programs ask. Nothing in it has to be escaped.
            write_private(
                &folder.path().join("pgpass"),
                &format!("*:*:*:*:{}\n", password.expose()),
            )?;
            variables.extend(files(&server, folder.path())?);
            Ok(Self { folder, variables })
        };
        tokio::task::spawn_blocking(make).await?.map_err(Error::Surroundings)
    }

    /// A program that ends with the value that runs it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        let kept = KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(kept).envs(self.variables.iter().map(|(name, value)| (name, value)));
        // Their words are looked at, so they must not be translated.
        command.env("LC_ALL", "C").env("HOME", self.folder.path());
        command.current_dir(self.folder.path()).kill_on_drop(true).stderr(Stdio::piped());
        command
    }
}

fn connection(server: &PgConnectOptions, timeout: Duration) -> Vec<(&'static str, String)> {
    let host = server.get_socket().map_or_else(
        || server.get_host().trim_start_matches('[').trim_end_matches(']').to_owned(),
        |socket| socket.display().to_string(),
    );
    let mut variables = vec![
        ("PGHOST", host),
        ("PGPORT", server.get_port().to_string()),
        ("PGSSLMODE", ssl_mode(server).to_owned()),
        // Our own connections have none either, and looking for it can take seconds.
        ("PGGSSENCMODE", "disable".to_owned()),
        // Below 2 it is 2.
        ("PGCONNECT_TIMEOUT", timeout.as_secs().max(2).to_string()),
        ("PGAPPNAME", server.get_application_name().unwrap_or("mt-postgres").to_owned()),
    ];
    if let Some(options) = server.get_options() {
        variables.push(("PGOPTIONS", options.to_owned()));
    }
    variables
}

fn ssl_mode(server: &PgConnectOptions) -> &'static str {
    match server.get_ssl_mode() {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

/// The files they look for, each named, so that none of the user's own is taken.
fn files(server: &PgConnectOptions, folder: &Path) -> io::Result<Vec<(&'static str, String)>> {
    let path = |name: &str| folder.join(name).display().to_string();
    let url = server.to_url_lossy();
    let setting = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, v)| v);
    let mut variables =
        vec![("PGPASSFILE", path("pgpass")), ("PGSERVICEFILE", path("no-services"))];
    for (variable, name) in
        [("PGSSLCERT", "sslcert"), ("PGSSLKEY", "sslkey"), ("PGSSLROOTCERT", "sslrootcert")]
    {
        let file = folder.join(name);
        let value = match setting(name) {
            Some(value) => certificate(&value, file)?,
            None if name == "sslrootcert" && ssl_mode(server).starts_with("verify") => {
                write_private(&file, &trusted())?;
                file
            }
            // There is none, and that is fine.
            None => file,
        };
        // Our own connections check it in these modes only.
        if name == "sslrootcert" && !ssl_mode(server).starts_with("verify") {
            variables.push((variable, path("no-root")));
        } else {
            variables.push((variable, value.display().to_string()));
        }
    }
    Ok(variables)
}

/// Where a certificate or a key is that a setting names, or that stands in it.
fn certificate(setting: &str, file: PathBuf) -> io::Result<PathBuf> {
    if let Some(path) = setting.strip_prefix("file: ") {
        // The program's own folder is another one.
        return std::path::absolute(path);
    }
    write_private(&file, setting)?;
    Ok(file)
}

/// What this system trusts, as our own connections do.
fn trusted() -> String {
    let mut pem = String::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        let text = BASE64_STANDARD.encode(&certificate);
        pem += "-----BEGIN CERTIFICATE-----\n";
        for line in text.as_bytes().chunks(PEM_LINE) {
            pem += &String::from_utf8_lossy(line);
            pem += "\n";
        }
        pem += "-----END CERTIFICATE-----\n";
    }
    pem
}

fn private_folder() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("mt-postgres-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir()
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    async fn prepared(url: &str) -> (Surroundings, BTreeMap<&'static str, String>) {
        prepared_for(url.parse().unwrap()).await
    }

    async fn prepared_for(
        server: PgConnectOptions,
    ) -> (Surroundings, BTreeMap<&'static str, String>) {
        let password = Secret::new("hunter2");
        let timeout = Duration::from_millis(1_500);
        let made = Surroundings::prepare(&server, "tenant_a", "role", password, timeout).await;
        let made = made.unwrap();
        let variables = made.variables.iter().cloned().collect();
        (made, variables)
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_password_is_in_a_file_of_ours_alone_which_goes_away() {
        use std::os::unix::fs::PermissionsExt as _;
        let (made, variables) =
            prepared("postgres://admin:secret@[::1]:6543/p?sslmode=require").await;
        let file = PathBuf::from(&variables["PGPASSFILE"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_to_string(&file).unwrap(), "*:*:*:*:hunter2\n");
        let command = made.command(Path::new("pg_dump"));
        let shown = format!("{:?} {:?}", command.as_std(), variables);
        assert!(!shown.contains("hunter2") && !shown.contains("secret"), "{shown}");
        for (name, value) in [
            ("PGHOST", "::1"),
            ("PGPORT", "6543"),
            ("PGUSER", "role"),
            ("PGDATABASE", "tenant_a"),
            ("PGSSLMODE", "require"),
            ("PGCONNECT_TIMEOUT", "2"),
        ] {
            assert_eq!(variables[name], value, "{name}");
        }
        assert!(!Path::new(&variables["PGSSLROOTCERT"]).exists());
        drop(made);
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn certificates_are_those_of_our_own_connections() {
        let url = "postgres://a:b@db.example/p?sslmode=verify-full";
        let (_made, variables) = prepared(&format!("{url}&sslrootcert=/etc/ca.pem")).await;
        assert_eq!(variables["PGSSLROOTCERT"], "/etc/ca.pem");
        assert_eq!(variables["PGSSLMODE"], "verify-full");
        let pem = b"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----".to_vec();
        let server = url.parse::<PgConnectOptions>().unwrap().ssl_root_cert_from_pem(pem);
        let (_made, variables) = prepared_for(server).await;
        let kept = fs::read_to_string(&variables["PGSSLROOTCERT"]).unwrap();
        assert!(kept.contains("\nabc\n"), "{kept}");
        let (_made, variables) = prepared(url).await;
        assert!(Path::new(&variables["PGSSLROOTCERT"]).is_file());
        let socket = "postgres://a:b@%2Frun%2Fpostgresql/p";
        let (_made, variables) = prepared(socket).await;
        assert_eq!(variables["PGHOST"], "/run/postgresql");
    }
}
