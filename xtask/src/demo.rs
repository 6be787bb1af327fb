//! Everything once, in a folder that is removed at the end.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use mt_devservers::{D1, Postgres, Turso};
use multi_tenancy::{
    cli::{Application, Exit, Out},
    migration::Migrator,
};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::shell::{cargo, read};

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// The tenant that signs up over HTTP.
const NEWCOMER: &str = "umbrella";
/// How long the service may take to start, and to answer one request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demonstration, on `sqlite` if no provider is named.
pub(crate) async fn run(provider: Option<&str>, out: &Out) -> anyhow::Result<()> {
    let engine = Engine::start(provider.unwrap_or("sqlite")).await?;
    let folder = tempfile::Builder::new().prefix("multi-tenancy-demo-").tempdir()?;
    let site = Site::new(folder.path(), &engine, out)?;
    println!("Three tenants, a database each, in {}:", engine.place(folder.path()));
    for tenant in TENANTS {
        site.run(&["provision", tenant]).await?;
    }
    println!("\nOne schema for all of them:");
    site.run(&["migrate-all"]).await?;

    println!("\nThe example service, with the same data (building it may take a while):");
    let mut service = Service::start(&site.settings).await?;
    let shown = show(&service, &site).await;
    service.stop().await?;
    shown?;
    folder.close().context("the demonstration's folder could not be removed")?;
    println!("\nDone. {}", engine.stop());
    Ok(())
}

/// Where the demonstration's databases are.
enum Engine {
    /// In files in its folder.
    Sqlite,
    /// On servers of its own, which end with this value.
    D1(Box<D1>),
    /// The same.
    Postgres(Box<Postgres>),
    /// The same.
    Turso(Box<Turso>),
}

impl Engine {
    async fn start(provider: &str) -> anyhow::Result<Self> {
        match provider {
            "sqlite" => Ok(Self::Sqlite),
            "d1" => {
                starting();
                Ok(Self::D1(Box::new(D1::start().await?)))
            }
            "postgres" => {
                starting();
                Ok(Self::Postgres(Box::new(Postgres::start().await?)))
            }
            "turso" => {
                starting();
                Ok(Self::Turso(Box::new(Turso::start().await?)))
            }
            other => {
                bail!(
                    "the demonstration runs on `sqlite`, `d1`, `postgres` or `turso`, not on `{other}`"
                )
            }
        }
    }

    fn place(&self, folder: &Path) -> String {
        match self {
            Self::Sqlite => folder.display().to_string(),
            Self::D1(server) => {
                format!("account `{}` of the API at {}", server.account_id(), server.api_url())
            }
            Self::Postgres(server) => format!("the server at 127.0.0.1:{}", server.port()),
            Self::Turso(server) => {
                format!("group `{}` of the platform at {}", server.group(), server.api_url())
            }
        }
    }

    /// What the settings file says of it.
    fn settings(&self) -> String {
        match self {
            Self::Sqlite => String::new(),
            // A text of JSON is a text of TOML.
            Self::D1(server) => format!(
                "provider = \"d1\"\n\n[d1]\napi_url = {}\napi_token = {}\naccount_id = {}\n",
                json!(server.api_url()),
                json!(server.api_token()),
                json!(server.account_id()),
            ),
            Self::Postgres(server) => format!(
                "provider = \"postgres\"\n\n[postgres]\nadmin_url = {}\nrole_secret = {}\n",
                json!(server.url()),
                json!(server.password()),
            ),
            Self::Turso(server) => format!(
                "provider = \"turso\"\n\n[turso]\napi_url = {}\napi_token = {}\norganization = {}\ngroup = {}\n",
                json!(server.api_url()),
                json!(server.api_token()),
                json!(server.organization()),
                json!(server.group()),
            ),
        }
    }

    /// Ends it, and says how to go on.
    fn stop(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "The folder is removed again; `cargo xtask provision acme` makes yours."
            }
            Self::D1(_) | Self::Postgres(_) | Self::Turso(_) => {
                drop(self);
                "The server is stopped and the folder removed; `cargo xtask services up` starts one for you."
            }
        }
    }
}

fn starting() {
    println!("Starting a server of our own; the first time, it is fetched.");
}

/// What is shown while the service runs.
async fn show(service: &Service, site: &Site<'_>) -> anyhow::Result<()> {
    println!("listening on {}", service.url);

    println!("\nA fourth tenant signs up over HTTP:");
    let owner = json!({"email": format!("owner@{NEWCOMER}.example"), "name": "Olivia"});
    service.post("/tenants", None, &json!({"id": NEWCOMER, "owner": owner})).await?;

    let everybody = [&TENANTS[..], &[NEWCOMER]].concat();
    println!("\nEach tenant writes a user and a log entry:");
    for tenant in &everybody {
        let user = json!({"email": email(tenant), "name": "Ada"});
        service.post("/users", Some(tenant), &user).await?;
        let log = json!({"kind": "demo", "message": message(tenant)});
        service.post("/logs", Some(tenant), &log).await?;
    }

    println!("\nEach tenant reads, and sees its own rows and nobody else's:");
    for tenant in &everybody {
        service.check_own(tenant, "/users", &everybody, email).await?;
        service.check_own(tenant, "/logs", &everybody, message).await?;
    }

    println!("\nA request without a tenant, or with an unknown one, reaches no database:");
    service.check_refused(None, StatusCode::BAD_REQUEST).await?;
    service.check_refused(Some("nobody"), StatusCode::NOT_FOUND).await?;
    service.check_refused(Some("../acme"), StatusCode::BAD_REQUEST).await?;

    println!("\nWhat there is now:");
    site.run(&["status"]).await
}

fn email(tenant: &str) -> String {
    format!("ada@{tenant}.example")
}

fn message(tenant: &str) -> String {
    format!("first day of {tenant}")
}

/// The command line, in a folder of its own.
struct Site<'a> {
    application: Application<Migrator>,
    /// The settings file.
    settings: String,
    out: &'a Out,
}

impl<'a> Site<'a> {
    /// Neither the caller's environment nor a settings file of his has a say in it: they may name
    /// the folder of real tenants.
    fn new(folder: &Path, engine: &Engine, out: &'a Out) -> anyhow::Result<Self> {
        let settings = folder.join("mt.toml");
        let text = format!("data_dir = {}\n{}", json!(folder.join("data")), engine.settings());
        std::fs::write(&settings, text).context("the settings file could not be written")?;
        let settings = settings.to_str().context("the temporary folder's name is not UTF-8")?;
        let no_variables: [(&str, &str); 0] = [];
        Ok(Self {
            application: Application::new().with_environment(no_variables),
            settings: settings.to_owned(),
            out,
        })
    }

    /// Does what `cargo xtask ARGS` does.
    async fn run(&self, args: &[&str]) -> anyhow::Result<()> {
        println!("$ cargo xtask {}", args.join(" "));
        let all = [&["mt"], args, &["--config", &self.settings]].concat();
        let exit = self.application.run_from(all, self.out).await;
        ensure!(exit == Exit::Done, "`{}` ended with {}", args.join(" "), exit.code());
        Ok(())
    }
}

/// The example service, as a process of its own.
struct Service {
    child: Child,
    client: Client,
    url: String,
}

impl Service {
    /// Builds it, and starts it on a free port of the loopback interface.
    async fn start(settings: &str) -> anyhow::Result<Self> {
        let program = tokio::task::spawn_blocking(build).await??;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MT_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--config", settings])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the service could not be started")?;
        let stdout = child.stdout.take().context("the service has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let url = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await? {
                if let Some(url) = line.strip_prefix("listening on ") {
                    return Ok(url.trim().to_owned());
                }
            }
            bail!("the service ended before it listened")
        });
        let url = url.await.context("the service did not listen in time")??;
        // Read on, so that the service never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let client = mt_devservers::http_client().timeout(PATIENCE).build()?;
        Ok(Self { child, client, url })
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("the service could not be stopped")
    }

    /// Posts `body` and expects success.
    async fn post(&self, path: &str, tenant: Option<&str>, body: &Value) -> anyhow::Result<()> {
        let request = self.client.post(format!("{}{path}", self.url)).json(body);
        let (status, text) = send(request, tenant).await?;
        println!("POST {path:<8} {:<9} {body} -> {}", tenant.unwrap_or("-"), status.as_u16());
        ensure!(status.is_success(), "POST {path} was refused: {status} {text}");
        Ok(())
    }

    async fn get(&self, path: &str, tenant: Option<&str>) -> anyhow::Result<(StatusCode, String)> {
        send(self.client.get(format!("{}{path}", self.url)), tenant).await
    }

    /// Reads `path` as `tenant`, and expects in it what `tenant` wrote, and of what the others
    /// wrote nothing.
    async fn check_own(
        &self,
        tenant: &str,
        path: &str,
        everybody: &[&str],
        written: fn(&str) -> String,
    ) -> anyhow::Result<()> {
        let (status, text) = self.get(path, Some(tenant)).await?;
        ensure!(status.is_success(), "GET {path} of {tenant} was refused: {status} {text}");
        let seen = everybody.iter().filter(|other| text.contains(&written(other)));
        let seen: Vec<&str> = seen.copied().collect();
        ensure!(seen == [tenant], "GET {path} of {tenant} shows the rows of {seen:?}: {text}");
        println!("GET  {path:<8} {tenant:<9} {}", written(tenant));
        Ok(())
    }

    async fn check_refused(
        &self,
        tenant: Option<&str>,
        expected: StatusCode,
    ) -> anyhow::Result<()> {
        let (status, text) = self.get("/users", tenant).await?;
        let name = tenant.unwrap_or("-");
        ensure!(status == expected, "GET /users of {name}: {status} {text}, expected {expected}");
        println!("GET  /users   {name:<9} {status}");
        Ok(())
    }
}

async fn send(
    request: RequestBuilder,
    tenant: Option<&str>,
) -> anyhow::Result<(StatusCode, String)> {
    let request = match tenant {
        Some(tenant) => request.header("x-tenant-id", tenant),
        None => request,
    };
    let response = request.send().await.context("the service does not answer")?;
    let status = response.status();
    Ok((status, response.text().await.context("the service's answer is torn")?))
}

/// Builds the service, and tells where the program is.
fn build() -> anyhow::Result<String> {
    let args = ["build", "-q", "-p", "saas-api", "--message-format", "json-render-diagnostics"];
    let messages = read(&mut cargo(&args))?;
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_ours = message["target"]["name"] == "saas-api";
        message["executable"].as_str().filter(|_| is_ours).map(str::to_owned)
    });
    program.context("`cargo build -p saas-api` made no program")
}
