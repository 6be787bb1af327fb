//! D1's management API: create, find, list, change, delete; who may come in; kill and restart.

use mt_devservers::D1;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// An account, and a client of it.
pub(crate) struct Site {
    pub(crate) d1: D1,
    pub(crate) client: Client,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::of(D1::start().await.unwrap())
    }

    pub(crate) fn of(d1: D1) -> Self {
        // One connection a request: a fault that cuts one meets no other request.
        let client = mt_devservers::http_client().pool_max_idle_per_host(0).build().unwrap();
        Self { d1, client }
    }

    /// The address of `path` behind `/d1/database`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/accounts/{}/d1/database{path}", self.d1.api_url(), self.d1.account_id())
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> reqwest::RequestBuilder {
        let request = self.client.request(method, self.url(path));
        let request = request.bearer_auth(self.d1.api_token());
        if body.is_null() { request } else { request.json(body) }
    }

    pub(crate) async fn api(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.request(method, path, &body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.api(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.api(Method::POST, path, body).await
    }

    /// Creates a database, and tells its uuid.
    pub(crate) async fn create(&self, name: &str) -> String {
        let (status, answer) = self.post("", json!({"name": name})).await;
        assert_eq!(status, 200, "{answer}");
        answer["result"]["uuid"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn raw(&self, id: &str, body: Value) -> (StatusCode, Value) {
        self.post(&format!("/{id}/raw"), body).await
    }

    /// The rows of a statement that succeeds.
    pub(crate) async fn rows(&self, id: &str, sql: &str) -> Value {
        let (status, answer) = self.raw(id, json!({"sql": sql})).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        answer["result"][0]["results"]["rows"].clone()
    }
}

/// The code of an answer that is an error.
pub(crate) fn code(answer: &Value) -> u64 {
    assert_eq!(answer["success"], false, "{answer}");
    assert_eq!(answer["result"], Value::Null, "{answer}");
    answer["errors"][0]["code"].as_u64().unwrap()
}

#[tokio::test]
async fn a_database_is_created_found_and_deleted() {
    let site = Site::start().await;
    let id = site.create("one").await;
    let (status, answer) = site.post("", json!({"name": "one"})).await;
    assert_eq!((status.as_u16(), code(&answer)), (400, 7502));
    site.rows(&id, "create table t (x)").await;
    site.rows(&id, "insert into t values (7)").await;
    for key in [id.as_str(), "one", "%6fne"] {
        let (status, answer) = site.get(&format!("/{key}")).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["result"]["uuid"], id.as_str());
        assert_eq!(answer["result"]["num_tables"], 1);
    }
    assert_eq!(site.rows(&id, "select x from t").await, json!([[7]]));
    let (status, answer) = site.api(Method::DELETE, &format!("/{id}"), Value::Null).await;
    assert_eq!((status.as_u16(), &answer["result"]), (200, &Value::Null));
    for path in [format!("/{id}"), "/one".to_owned()] {
        let (status, answer) = site.get(&path).await;
        assert_eq!((status.as_u16(), code(&answer)), (404, 7404));
    }
}

#[tokio::test]
async fn databases_outlive_workerd() {
    let site = Site::start().await;
    let id = site.create("one").await;
    site.rows(&id, "create table t (x)").await;
    site.rows(&id, "insert into t values (7)").await;
    site.d1.workerd().kill().unwrap();
    assert!(site.request(Method::GET, "/one", &Value::Null).send().await.is_err());
    site.d1.workerd().restart().await.unwrap();
    assert_eq!(site.rows(&id, "select x from t").await, json!([[7]]));
    assert_eq!(site.get("/one").await.1["result"]["uuid"], id.as_str());
}

#[tokio::test]
async fn only_the_token_opens_only_the_account() {
    let site = Site::start().await;
    let id = site.create("one").await;
    let status_of = async |url: String, token: Option<&str>| {
        let mut request = site.client.get(url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), code(&answer.json().await.unwrap()))
    };
    let token = site.d1.api_token();
    assert_eq!(status_of(site.url(""), None).await, (401, 10000));
    assert_eq!(status_of(site.url(""), Some("other")).await, (401, 10000));
    let of_account = |account: &str| site.url("").replace(site.d1.account_id(), account);
    assert_eq!(status_of(of_account("short"), Some(token)).await, (404, 7003));
    let other = "0123456789abcdef0123456789abcdef";
    assert_eq!(status_of(of_account(other), Some(token)).await, (403, 7403));
    assert_eq!(status_of(site.url(&format!("/{id}/nothing")), Some(token)).await, (404, 7003));
    // To work with, a database has its uuid and no name.
    for (id, expected) in
        [("one", (400, 7400)), ("0c8d5f1e-7b7f-4a3e-9a0e-3f6a3f1f2b11", (404, 7404))]
    {
        let (status, answer) = site.raw(id, json!({"sql": "select 1"})).await;
        assert_eq!((status.as_u16(), code(&answer)), expected, "{id}");
    }
}

#[tokio::test]
async fn databases_are_listed_by_pages_and_parts_of_names() {
    let site = Site::start().await;
    for name in ["tenant_a", "tenant_ab", "other", "Tenant_c"] {
        site.create(name).await;
    }
    let names = async |query: &str| {
        let (status, answer) = site.get(query).await;
        assert_eq!(status, 200, "{answer}");
        let databases = answer["result"].as_array().unwrap().clone();
        let info = answer["result_info"].clone();
        assert_eq!(info["count"], databases.len());
        let names: Vec<_> = databases.iter().map(|one| one["name"].clone()).collect();
        (json!(names), info["total_count"].clone())
    };
    assert_eq!(names("?name=tenant_a").await, (json!(["tenant_a", "tenant_ab"]), json!(2)));
    assert_eq!(names("?name=TENANT_C").await, (json!(["Tenant_c"]), json!(1)));
    assert_eq!(names("?page=2&per_page=3").await, (json!(["Tenant_c"]), json!(4)));
    assert_eq!(names("?page=3&per_page=3").await, (json!([]), json!(4)));
    let (status, answer) = site.get("?per_page=0").await;
    assert_eq!((status.as_u16(), code(&answer)), (400, 7400));
}

#[tokio::test]
async fn what_is_wished_for_is_checked_and_told_again() {
    let site = Site::start().await;
    let wish = json!({
        "name": "one", "jurisdiction": "eu", "primary_location_hint": "apac",
        "read_replication": {"mode": "auto"},
    });
    let (status, answer) = site.post("", wish).await;
    assert_eq!((status.as_u16(), &answer["result"]["jurisdiction"]), (200, &json!("eu")));
    let path = format!("/{}", answer["result"]["uuid"].as_str().unwrap());
    let (_, answer) = site.get(&format!("{path}?fields=uuid,name,running_in_region")).await;
    let fields: Vec<_> = answer["result"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields.len(), 3);
    // A jurisdiction makes the hint ignored.
    assert_eq!(answer["result"]["running_in_region"], "WEUR");
    let mode = json!({"read_replication": {"mode": "disabled"}});
    for (method, body) in [(Method::PUT, mode), (Method::PATCH, json!({}))] {
        let (status, answer) = site.api(method, &path, body).await;
        assert_eq!(
            (status.as_u16(), &answer["result"]["read_replication"]["mode"]),
            (200, &json!("disabled"))
        );
    }
    let wrong = [
        json!({}),
        json!({"name": ""}),
        json!({"name": "x", "jurisdiction": "mars"}),
        json!({"name": "x", "primary_location_hint": "here"}),
        json!({"name": "x", "read_replication": {"mode": "often"}}),
        json!([]),
    ];
    for wish in wrong {
        let (status, answer) = site.post("", wish.clone()).await;
        assert_eq!((status.as_u16(), code(&answer)), (400, 7400), "{wish}");
    }
    let (status, answer) = site.api(Method::PUT, &path, json!({})).await;
    assert_eq!((status.as_u16(), code(&answer)), (400, 7400));
}

#[tokio::test]
async fn of_two_that_want_a_name_one_gets_it_and_a_quota_holds() {
    let site = Site::of(D1::builder().quota(2).start().await.unwrap());
    let wish = || site.post("", json!({"name": "one"}));
    let (first, second) = tokio::join!(wish(), wish());
    let mut statuses = [first.0.as_u16(), second.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    site.create("two").await;
    let (status, answer) = site.post("", json!({"name": "three"})).await;
    assert_eq!((status.as_u16(), code(&answer)), (400, 7406));
}

#[tokio::test]
async fn a_batch_is_one_transaction() {
    let site = Site::start().await;
    let id = site.create("one").await;
    let create = "create table t (x integer unique)";
    let batch = |list: &[&str]| {
        let statements: Vec<_> = list.iter().map(|sql| json!({"sql": sql})).collect();
        json!({"batch": statements})
    };
    let (status, _) = site.raw(&id, batch(&[create, "insert into t values (1)"])).await;
    assert_eq!(status, 200);
    // Of several statements in one text as much as of a batch.
    let failing = ["insert into t values (2)", "insert into t values (1)"];
    for body in [batch(&failing), json!({"sql": failing.join(";")})] {
        let (status, answer) = site.raw(&id, body).await;
        assert_eq!((status.as_u16(), code(&answer)), (400, 7500));
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(
            message.starts_with("UNIQUE constraint failed: t.x: SQLITE_CONSTRAINT"),
            "{message}"
        );
        assert_eq!(site.rows(&id, "select x from t").await, json!([[1]]));
    }
}

#[tokio::test]
async fn a_text_is_cut_into_statements_where_they_end() {
    let site = Site::start().await;
    let id = site.create("one").await;
    let text = "create table t (x, y); -- the ; of a comment\r\n\
        create trigger \"a;b\" after insert on t when new.x in (1, case when 1 then 2 end)\r\n\
        begin\r\n update t set y = ';' || case x when 1 then 'end' end;\r\n select 1;\r\nend;\r\n\
        insert into t (x) values (1); /* ; */ select x, y as [a;b], 'it''s;' from t;\n";
    let (status, answer) = site.raw(&id, json!({"sql": text})).await;
    assert_eq!(status, 200, "{answer}");
    let results = answer["result"].as_array().unwrap();
    assert_eq!(results.len(), 4, "{answer}");
    let expected = json!({"columns": ["x", "a;b", "'it''s;'"], "rows": [[1, ";end", "it's;"]]});
    assert_eq!(results[3]["results"], expected);
}

#[tokio::test]
async fn workerd_itself_answers_when_that_is_wished_for() {
    let site = Site::of(D1::builder().direct(true).start().await.unwrap());
    assert!(site.d1.api_url().contains(&format!(":{}/", site.d1.workerd().port())));
    let id = site.create("one").await;
    assert_eq!(site.rows(&id, "select 1").await, json!([[1]]));
    assert_eq!(site.d1.requests().total(), 0);
    let [url, token, account] = ["MT_D1__API_URL", "MT_D1__API_TOKEN", "MT_D1__ACCOUNT_ID"];
    let names: Vec<_> = site.d1.environment().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [url, token, account]);
}
