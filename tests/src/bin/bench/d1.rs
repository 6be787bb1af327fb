//! Reading and writing on a real workerd: theirs is one call of reqwest.

use std::time::Duration;

use anyhow::{Result, ensure};
use mt_core::{DataAdapters, DatabaseFactory as _, FactoryContext};
use mt_d1::{D1Factory, D1FactoryBuilder};
use mt_devservers::{D1, d1::D1Builder};
use mt_entity::{setting, user};
use mt_migration::{Migrator, Runner};
use mt_tests::tenant;
use sea_orm::{
    ActiveModelTrait as _, DbBackend, EntityTrait as _, IntoActiveModel as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
    entity::prelude::{DateTimeUtc, Uuid},
};
use serde_json::{Value, json};

use crate::figure::{Figure, Times, millis, rounded};

/// A factory over `server`, which has no limit; the context is missing.
pub(crate) fn factory(server: &D1) -> D1FactoryBuilder {
    D1Factory::builder()
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_account_id(server.account_id())
        .with_requests_per_window(1_000_000)
}

/// A service with one tenant that has the reference schema, and something in it.
struct Service {
    server: D1,
    data: DataAdapters,
    /// Where the tenant's statements go.
    url: String,
    user: user::Model,
    setting: setting::Model,
}

impl Service {
    async fn start(server: D1Builder) -> Result<Self> {
        let server = server.start().await?;
        let schema = std::sync::Arc::new(Runner::of::<Migrator>()?);
        let deployment = mt_core::DeploymentId::random();
        let context = FactoryContext::new(deployment).with_template(schema);
        let factory = factory(&server).with_context(context).build()?;
        let tenant = tenant("acme")?;
        factory.provision(&tenant).await?;
        let data = factory.get_adapters(&tenant).await?;
        let database = factory.client().database_by_name("tenant_acme").await?;
        let uuid = database.map(|database| database.uuid).unwrap_or_default();
        let (base, account) = (server.api_url(), server.account_id());
        let url = format!("{base}/accounts/{account}/d1/database/{uuid}/raw");
        let user = user(7).into_active_model().insert(&data).await?;
        let setting = setting::Model {
            key: "theme".to_owned(),
            value: "dark".to_owned(),
            updated_at: DateTimeUtc::UNIX_EPOCH,
        };
        let setting = setting.into_active_model().insert(&data).await?;
        Ok(Self { server, data, url, user, setting })
    }

    /// A row by its primary key, through the entity.
    async fn our_setting(&self) -> Result<()> {
        let found = setting::Entity::find_by_id(self.setting.key.as_str()).one(&self.data).await?;
        ensure!(found.as_ref() == Some(&self.setting), "another setting came back");
        Ok(())
    }

    async fn our_user(&self) -> Result<()> {
        let found = user::Entity::find_by_id(self.user.id).one(&self.data).await?;
        ensure!(found.as_ref() == Some(&self.user), "another user came back");
        Ok(())
    }

    /// A row by a statement, and what its second column is to be.
    async fn theirs(&self, http: &reqwest::Client, body: &Value, expected: &str) -> Result<()> {
        let request = http.post(&self.url).bearer_auth(self.server.api_token()).json(body);
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let row = &answer["result"][0]["results"]["rows"][0];
        ensure!(row[1] == expected, "another row came back: {answer}");
        Ok(())
    }

    /// The request that asks for the same as [`our_setting`](Self::our_setting).
    fn setting_request(&self) -> Value {
        let select = setting::Entity::find_by_id(self.setting.key.as_str()).limit(1);
        json!({ "sql": select.build(DbBackend::Sqlite).sql, "params": [self.setting.key, "1"] })
    }

    /// The request that asks for the same as [`our_user`](Self::our_user). Its id is a blob, which
    /// JSON has not.
    fn user_request(&self) -> Value {
        let select = user::Entity::find_by_id(self.user.id).limit(1).build(DbBackend::Sqlite).sql;
        let id = self.user.id.simple().to_string();
        json!({ "sql": select.replacen('?', "unhex(?)", 1), "params": [id, "1"] })
    }
}

fn user(id: u128) -> user::Model {
    let email = format!("user{id}@example.com");
    user::Model {
        id: Uuid::from_u128(id),
        email: email.clone(),
        name: format!("User {id}"),
        created_at: DateTimeUtc::UNIX_EPOCH,
        updated_at: DateTimeUtc::UNIX_EPOCH,
        email_normalized: Some(email),
    }
}

/// One row by its primary key, warm, one after the other in turns. workerd answers itself, without
/// a front. The slower of two entities counts.
pub(crate) async fn read() -> Result<Figure> {
    const ROUNDS: usize = 20;
    const EACH: usize = 50;
    let service = Service::start(D1::builder().direct(true)).await?;
    let http = mt_devservers::http_client().build()?;
    let (setting, user) = (service.setting_request(), service.user_request());
    let (value, email) = (&service.setting.value, &service.user.email);
    for _ in 0..EACH {
        service.our_setting().await?;
        service.our_user().await?;
        service.theirs(&http, &setting, value).await?;
        service.theirs(&http, &user, email).await?;
    }
    let mut times: [Times; 4] = Default::default();
    for _ in 0..ROUNDS {
        for _ in 0..EACH {
            times[0].take(service.theirs(&http, &setting, value)).await?;
        }
        for _ in 0..EACH {
            times[1].take(service.our_setting()).await?;
        }
        for _ in 0..EACH {
            times[2].take(service.theirs(&http, &user, email)).await?;
        }
        for _ in 0..EACH {
            times[3].take(service.our_user()).await?;
        }
    }
    let medians = times.map(Times::median);
    let ratio = |ours: Duration, theirs: Duration| ours.as_secs_f64() / theirs.as_secs_f64();
    let [their_setting, our_setting, their_user, our_user] = medians;
    let ratios = [ratio(our_setting, their_setting), ratio(our_user, their_user)];
    let of = |ours, theirs, ratio| {
        json!({
            "ours_ms_median": millis(ours, 1),
            "theirs_ms_median": millis(theirs, 1),
            "ratio": rounded(ratio),
        })
    };
    let conditions = json!({
        "selects": ROUNDS * EACH,
        "server": "workerd on loopback, nothing between",
        "ours": "SeaORM's find_by_id on the tenant's handle",
        "theirs": "one warm reqwest client, the same statement, the answer read as JSON",
        "setting_by_text_key": of(our_setting, their_setting, ratios[0]),
        "user_by_uuid": of(our_user, their_user, ratios[1]),
    });
    Ok(Figure { value: ratios[0].max(ratios[1]), conditions })
}

/// How many requests 1,000 rows take, counted between client and server, in a process that has done
/// nothing of the kind.
pub(crate) async fn bulk_insert() -> Result<Figure> {
    const ROWS: usize = 1_000;
    let mut counts = Vec::new();
    for how in [How::Exec, How::WithoutReturning, How::Returning] {
        let service = Service::start(D1::builder()).await?;
        let data = &service.data;
        let mut expected = vec![service.user.clone()];
        for first in [1_000, 10_000] {
            let rows: Vec<_> = (first..).take(ROWS).map(user).collect();
            let requests = service.server.requests();
            requests.reset();
            how.insert(data, &rows).await?;
            counts.push(requests.total());
            expected.extend(rows);
        }
        let found = user::Entity::find().order_by_asc(user::Column::Id).all(data).await?;
        ensure!(found == expected, "other rows are there than were inserted");
    }
    let most = counts.iter().copied().max().unwrap_or_default();
    ensure!(counts.iter().all(|count| *count >= 1), "requests were not counted");
    let first_and_later =
        |at: usize| json!({ "first": counts[2 * at], "later": counts[2 * at + 1] });
    let conditions = json!({
        "rows": ROWS,
        "columns": 6,
        "ours": "SeaORM's insert_many on the tenant's handle, one call, atomic",
        "counted": "HTTP requests; the most of any call",
        "exec": first_and_later(0),
        "exec_without_returning": first_and_later(1),
        "exec_with_returning": first_and_later(2),
    });
    Ok(Figure { value: most as f64, conditions })
}

/// What an insert is to tell.
#[derive(Clone, Copy)]
enum How {
    Exec,
    WithoutReturning,
    Returning,
}

impl How {
    async fn insert(self, data: &DataAdapters, rows: &[user::Model]) -> Result<()> {
        let many =
            user::Entity::insert_many(rows.iter().cloned().map(|row| row.into_active_model()));
        match self {
            Self::Exec => {
                many.exec(data).await?;
            }
            Self::WithoutReturning => {
                let inserted = many.exec_without_returning(data).await?;
                ensure!(inserted == rows.len() as u64, "{inserted} rows were inserted");
            }
            Self::Returning => {
                let returned = many.exec_with_returning(data).await?;
                ensure!(returned == rows, "other rows came back than were inserted");
            }
        }
        Ok(())
    }
}
