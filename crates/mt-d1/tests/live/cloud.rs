//! The service, asked by our client and past it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::TryStreamExt as _;
use libtest_mimic::Failed;
use mt_conformance::{MemoryPlacements, Subject};
use mt_core::{DeploymentId, FactoryContext};
use mt_d1::{CreateDatabase, Creation, D1Factory};
use mt_remote::{HttpSettings, http_client};
use serde_json::{Value, json};

/// Whom to ask, and with which right.
#[derive(Clone)]
pub(crate) struct Cloud {
    account: String,
    token: String,
    url: String,
    /// How many databases may be made until the account is full.
    pub(crate) fill: Option<usize>,
    /// What the databases of this run's questions begin with.
    pub(crate) prefix: String,
}

pub(crate) const REQUIRED: [&str; 2] = ["MT_TEST_D1_ACCOUNT_ID", "MT_TEST_D1_API_TOKEN"];
pub(crate) const FILL: &str = "MT_TEST_D1_FILL";

/// An answer as it came.
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Told {
    pub(crate) fn is_success(&self) -> bool {
        self.status == 200 && self.body["success"] == true
    }

    /// Status, and code and words of the first error.
    pub(crate) fn refusal(&self) -> String {
        let error = &self.body["errors"][0];
        format!("status {}, code {}, {}", self.status, error["code"], error["message"])
    }

    pub(crate) fn code(&self) -> Option<i64> {
        self.body["errors"][0]["code"].as_i64()
    }

    pub(crate) fn result(&self) -> &Value {
        &self.body["result"]
    }

    /// The rows of the first statement.
    pub(crate) fn rows(&self) -> &Value {
        &self.body["result"][0]["results"]["rows"]
    }
}

impl Cloud {
    pub(crate) fn from_environment() -> Option<Self> {
        let [account, token] = REQUIRED.map(|name| std::env::var(name).ok());
        let url = std::env::var("MT_TEST_D1_API_URL").ok();
        let fill = std::env::var(FILL).ok().and_then(|count| count.parse().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
        Some(Self {
            account: account?,
            token: token?,
            url: url.unwrap_or_else(|| "https://api.cloudflare.com/client/v4".to_owned()),
            fill,
            prefix: format!("mt-live-{now:x}-"),
        })
    }

    pub(crate) fn factory(&self) -> Result<Arc<D1Factory>, Failed> {
        let placements = Arc::new(MemoryPlacements::default());
        let context = FactoryContext::new(DeploymentId::random()).with_placements(placements);
        let builder = D1Factory::builder()
            .with_api_url(&self.url)
            .with_account_id(&self.account)
            .with_api_token(&self.token)
            .with_database_prefix("mt-live-")
            .with_context(context);
        Ok(Arc::new(builder.build().map_err(chain)?))
    }

    pub(crate) fn subject(&self) -> Subject {
        let factory = || self.factory().map_err(|e| format!("{e:?}")).expect("the settings");
        // Requests to a real cloud, four a second.
        Subject::new(factory(), factory())
            .with_secret(&self.token)
            .with_limit(Duration::from_secs(1800))
    }

    /// Makes a database of this run; its id.
    pub(crate) async fn make(&self, name: &str) -> Result<String, Failed> {
        let create = CreateDatabase::new(format!("{}{name}", self.prefix));
        match self.factory()?.client().create(&create).await.map_err(chain)? {
            Creation::Created(database) => Ok(database.uuid),
            Creation::Exists(database) => Err(format!("it is there: {database:?}").into()),
        }
    }

    /// Removes the databases of this run.
    pub(crate) async fn clear(&self) -> Result<(), Failed> {
        let factory = self.factory()?;
        let mut left = factory.client().databases(&self.prefix);
        while let Some(database) = left.try_next().await.map_err(chain)? {
            factory.client().delete(&database.uuid).await.map_err(chain)?;
        }
        Ok(())
    }

    /// Sends a request under the account's databases, past our client.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Result<Told, Failed> {
        let time = Duration::from_secs(60);
        let http = http_client(HttpSettings { connect_timeout: time, timeout: time });
        let url = format!("{}/accounts/{}/d1/database{path}", self.url, self.account);
        let method = method.parse()?;
        let mut request = http.map_err(chain)?.request(method, url).bearer_auth(&self.token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or_else(|_| json!({ "no_json": text }));
        Ok(Told { status, body })
    }

    /// Runs statements on a database, past our client.
    pub(crate) async fn raw(&self, uuid: &str, body: Value) -> Result<Told, Failed> {
        self.ask("POST", &format!("/{uuid}/raw"), body).await
    }

    /// Runs statements that have to succeed.
    pub(crate) async fn done(&self, uuid: &str, body: Value) -> Result<Told, Failed> {
        let told = self.raw(uuid, body).await?;
        if told.is_success() { Ok(told) } else { Err(told.refusal().into()) }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
pub(crate) fn chain(error: mt_core::Error) -> Failed {
    error.to_chain().into()
}

pub(crate) fn run(question: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime?.block_on(question)
}

/// Prints what was learned.
pub(crate) fn learned(question: &str, answer: impl std::fmt::Display) {
    eprintln!("ANSWER {question}: {answer}");
}

pub(crate) fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if is_so { Ok(()) } else { Err(otherwise().into()) }
}
