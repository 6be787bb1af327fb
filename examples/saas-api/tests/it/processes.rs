//! The program as a process of its own, the command line beside it, and the program's sudden end.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use multi_tenancy::{
    cli::{Application, Exit, Out},
    migration::Migrator,
};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use saas_api::TENANT_HEADER;
use serde_json::{Value, json};
use tokio::{
    process::{Child, ChildStdout},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    process::start,
    support::{client, owner, send},
};

/// Only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a client writes: the service is asked all the time, and the lists stay short.
const PACE: Duration = Duration::from_millis(5);
/// How long a command waits for the others, in milliseconds: not at all, or as long as the service
/// may take to see that a tenant is out of service.
const AT_ONCE: &str = "0";
const PATIENTLY: &str = "30000";

/// The service as a process. It dies with this value.
struct Program {
    child: Child,
    url: String,
    client: Client,
    #[expect(dead_code, reason = "held open for the process that writes to it")]
    output: tokio::io::Lines<tokio::io::BufReader<ChildStdout>>,
}

impl Program {
    async fn start(data: &Path) -> Self {
        let (child, url, output) = start(data).await;
        Self { child, url, client: client(), output }
    }

    async fn sign_up(&self, id: &str) {
        let body = json!({"id": id, "owner": {"email": owner(id), "name": "Olivia"}});
        let reply = send(self.client.post(format!("{}/tenants", self.url)).json(&body)).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
    }

    fn request(&self, method: Method, tenant: &str, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.header(TENANT_HEADER, tenant)
    }

    fn new_user(&self, tenant: &str, email: &str) -> RequestBuilder {
        let body = json!({"email": email, "name": "Ursula"});
        self.request(Method::POST, tenant, "/users").json(&body)
    }

    /// Adds users, each acknowledged.
    async fn add_users(&self, tenant: &str, label: &str, count: usize) -> BTreeSet<String> {
        let mut emails = BTreeSet::new();
        for number in 0..count {
            let email = format!("{label}-{number}@{tenant}.example");
            let reply = send(self.new_user(tenant, &email)).await;
            assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
            emails.insert(email);
        }
        emails
    }

    /// Every user of a tenant, page after page.
    async fn users(&self, tenant: &str) -> BTreeSet<String> {
        let mut emails = BTreeSet::new();
        let mut after = String::new();
        loop {
            let page = format!("/users?limit=500{after}");
            let reply = send(self.request(Method::GET, tenant, &page)).await;
            let ids = reply.column("id");
            let Some(last) = ids.last() else { return emails };
            after = format!("&after={last}");
            emails.extend(reply.column("email").into_iter().map(str::to_owned));
        }
    }

    /// A client that adds users to a tenant until it is stopped or nobody answers.
    fn writer(&self, tenant: &str, label: &str) -> Writer {
        let (told, log) = watch::channel(Log::default());
        let (stop, mut stopped) = oneshot::channel();
        let (tenant, label) = (tenant.to_owned(), label.to_owned());
        let request = self.request(Method::POST, &tenant, "/users");
        let task = tokio::spawn(async move {
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for number in 0.. {
                pace.tick().await;
                if !matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                    return;
                }
                let email = format!("{label}-{number}@{tenant}.example");
                let body = json!({"email": email, "name": "Wanda"});
                let Ok(response) = request.try_clone().unwrap().json(&body).send().await else {
                    return;
                };
                let status = response.status();
                told.send_modify(|log| {
                    if status == StatusCode::CREATED {
                        log.acknowledged.push(email);
                    } else {
                        log.refused_after.get_or_insert(log.acknowledged.len());
                    }
                });
                let known =
                    [StatusCode::CREATED, StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND];
                assert!(known.contains(&status), "{tenant}: {status}");
            }
        });
        Writer { task, stop, log }
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

#[derive(Clone, Debug, Default)]
struct Log {
    acknowledged: Vec<String>,
    /// How many had been acknowledged when the first was refused.
    refused_after: Option<usize>,
}

struct Writer {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    log: watch::Receiver<Log>,
}

impl Writer {
    /// Waits until `count` more are acknowledged than now.
    async fn wait_for_more(&mut self, count: usize) {
        let enough = self.log.borrow().acknowledged.len() + count;
        let wait = self.log.wait_for(|log| log.acknowledged.len() >= enough);
        drop(timeout(PATIENCE, wait).await.unwrap().unwrap());
    }

    /// Stops between two requests: what is acknowledged is in the log.
    async fn stop(self) -> Log {
        drop(self.stop);
        self.task.await.unwrap();
        self.log.borrow().clone()
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    InUse,
}

/// Runs the command line on the service's data; any other failure than `in_use` is one of the test.
async fn administer(data: &Path, drain_millis: &str, args: &[&str]) -> Outcome {
    let environment = [
        ("MT_DATA_DIR", data.as_os_str().to_owned()),
        ("MT_SQLITE__DRAIN_TIMEOUT_MS", drain_millis.into()),
    ];
    let application = Application::<Migrator>::new().with_environment(environment);
    let answers = Buffer::default();
    let args = ["mt", "--json"].iter().chain(args).map(ToString::to_string);
    let exit = application.run_from(args, &Out::new(answers.clone(), io::sink())).await;
    let answer: Value = serde_json::from_slice(&answers.0.lock().unwrap()).unwrap();
    match exit {
        Exit::Done => Outcome::Done,
        _ => {
            assert_eq!(
                (exit, &answer["error"]["kind"]),
                (Exit::Failed, &json!("in_use")),
                "{answer}"
            );
            Outcome::InUse
        }
    }
}

#[track_caller]
fn assert_has(users: &BTreeSet<String>, acknowledged: impl IntoIterator<Item = impl AsRef<str>>) {
    let lost: Vec<String> = acknowledged
        .into_iter()
        .map(|email| email.as_ref().to_owned())
        .filter(|email| !users.contains(email))
        .collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), users.len() + lost.len());
}

/// Two that are asked for at once: what the service holds then is let go of by itself every few
/// seconds, and that may just happen. The third waits.
const ATTEMPTS: [(&str, &str); 3] =
    [("acme", AT_ONCE), ("initech", AT_ONCE), ("umbrella", PATIENTLY)];

fn assert_both_ways(outcomes: &[Outcome]) {
    assert!(outcomes[..2].contains(&Outcome::InUse), "{outcomes:?}");
    assert_eq!(outcomes[2], Outcome::Done, "the service lets go within its limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_beside_the_service_keeps_what_was_acknowledged_since() {
    let data = tempfile::tempdir().unwrap();
    let (data, copies) = (data.path().join("data"), data.path());
    let program = Program::start(&data).await;
    program.sign_up("globex").await;
    let untouched = program.writer("globex", "meanwhile");

    let outcomes = join_all(ATTEMPTS.map(async |(tenant, drain)| {
        program.sign_up(tenant).await;
        let copied = program.add_users(tenant, "copied", 5).await;
        let copy = copies.join(tenant);
        let copy = copy.to_str().unwrap();
        let backup = ["backup", tenant, "--to", copy];
        assert_eq!(administer(&data, PATIENTLY, &backup).await, Outcome::Done);
        let later = program.add_users(tenant, "later", 5).await;

        let mut writer = program.writer(tenant, "meanwhile");
        writer.wait_for_more(1).await;
        let outcome = administer(&data, drain, &["restore", tenant, "--from", copy]).await;
        // The service looks again, and goes on.
        writer.wait_for_more(3).await;
        let log = writer.stop().await;
        let users = program.users(tenant).await;
        assert_has(&users, copied);
        match outcome {
            Outcome::InUse => {
                assert_has(&users, later);
                assert_has(&users, log.acknowledged);
            }
            Outcome::Done => {
                // What is refused comes between the old database and the restored one.
                let (replaced, kept) = log.acknowledged.split_at(log.refused_after.unwrap());
                assert_has(&users, kept);
                assert!(users.is_disjoint(&later), "{users:?}");
                assert!(replaced.iter().all(|email| !users.contains(email)), "{users:?}");
            }
        }
        outcome
    }))
    .await;
    assert_both_ways(&outcomes);

    let log = untouched.stop().await;
    assert_eq!(log.refused_after, None, "the others' tenants are served all the time");
    assert_has(&program.users("globex").await, log.acknowledged);
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_beside_the_service_takes_all_or_nothing() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let program = Program::start(data).await;
    program.sign_up("globex").await;
    let untouched = program.writer("globex", "meanwhile");

    let outcomes = join_all(ATTEMPTS.map(async |(tenant, drain)| {
        program.sign_up(tenant).await;
        let mut writer = program.writer(tenant, "meanwhile");
        writer.wait_for_more(5).await;
        let deprovision = ["deprovision", tenant, "--confirm", tenant];
        let outcome = administer(data, drain, &deprovision).await;
        match outcome {
            Outcome::InUse => {
                writer.wait_for_more(3).await;
                let log = writer.stop().await;
                assert_has(&program.users(tenant).await, log.acknowledged);
            }
            Outcome::Done => {
                let reply = send(program.new_user(tenant, "late@example.org")).await;
                assert!(reply.status.as_u16() >= 400, "{}: {}", reply.status, reply.body);
                let log = writer.stop().await;
                let refused_after = log.refused_after.unwrap();
                assert_eq!(refused_after, log.acknowledged.len(), "refused once, refused for ever");
                let file = data.join(format!("tenants/tenant_{tenant}.sqlite"));
                assert!(!file.exists(), "{}", file.display());
                // A tenant of that name is a new one.
                timeout(PATIENCE, program.sign_up(tenant)).await.unwrap();
            }
        }
        outcome
    }))
    .await;
    assert_both_ways(&outcomes);

    let log = untouched.stop().await;
    assert_eq!(log.refused_after, None, "the others' tenants are served all the time");
    assert_has(&program.users("globex").await, log.acknowledged);
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_the_service_was_killed() {
    let data = tempfile::tempdir().unwrap();
    let tenants = ["acme", "globex", "initech"];
    let program = Program::start(data.path()).await;
    for tenant in tenants {
        program.sign_up(tenant).await;
    }
    let mut writers: Vec<Writer> = tenants
        .iter()
        .flat_map(|tenant| ["one", "two"].map(|label| program.writer(tenant, label)))
        .collect();
    for writer in &mut writers {
        writer.wait_for_more(20).await;
    }
    // All of them are in the middle of it.
    program.kill().await;
    let mut acknowledged = Vec::new();
    for writer in writers {
        let log = writer.stop().await;
        assert_eq!(log.refused_after, None);
        acknowledged.push(log.acknowledged);
    }

    let program = Program::start(data.path()).await;
    for (tenant, logs) in tenants.iter().zip(acknowledged.chunks(2)) {
        let users = program.users(tenant).await;
        assert!(users.contains(&owner(tenant)));
        assert_has(&users, logs.iter().flatten());
        // And it is written to as before.
        program.add_users(tenant, "after", 1).await;
    }
    program.kill().await;
}
