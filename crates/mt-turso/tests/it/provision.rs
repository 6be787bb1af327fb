//! Databases being made, while the service does what services do.

use std::{sync::Arc, time::Duration};

use mt_core::{DatabaseFactory as _, ErrorKind};
use mt_devservers::turso::{Fault, Rule, WarmUp};
use mt_turso::{TursoConfig, TursoFactory};

use crate::support::{builder, context, execute, factory, server, tenant};

#[tokio::test]
async fn whatever_becomes_of_the_answer_there_is_one_database() {
    let server = server().await;
    let context = context();
    let factory = factory(&server, &context);
    for (n, fault) in [
        Fault::Dropped,
        Fault::Torn,
        Fault::WrongJson,
        Fault::Refused,
        Fault::Repeated,
        Fault::html(502),
        Fault::error(500, "internal"),
        Fault::too_many_requests(1),
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = tenant(&format!("t{n}"));
        let rule = Rule::new(fault.clone()).method("POST").path("/databases").times(1);
        let hits = server.api_faults().add(rule);
        let made = factory.provision(&tenant).await;
        assert_eq!(hits.count(), 1, "{fault:?}");
        server.api_faults().clear();
        if let Err(error) = made {
            // Told to be repeatable, and it is.
            assert!(error.is_transient(), "{fault:?}: {error:?}");
            factory.provision(&tenant).await.unwrap();
        }
        let data = factory.get_adapters(&tenant).await.unwrap();
        execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();
    }
    use futures_util::TryStreamExt as _;
    let listed: Vec<_> = factory.list().try_collect().await.unwrap();
    assert_eq!(listed.len(), 8);
}

#[tokio::test]
async fn a_create_that_worked_and_timed_out_is_adopted() {
    let server = server().await;
    let mut config = TursoConfig::default();
    config.api_url = server.api_url();
    server.api_token().clone_into(&mut config.api_token);
    server.organization().clone_into(&mut config.organization);
    server.group().clone_into(&mut config.group);
    config.api_timeout_ms = 3_000;
    let builder = TursoFactory::builder().with_config(config).with_context(context());
    let factory = builder.build().unwrap();
    let late = Fault::Late(Duration::from_secs(60));
    let hits = server.api_faults().add(Rule::new(late).method("POST").path("/databases").times(1));
    let acme = tenant("acme");
    if let Err(error) = factory.provision(&acme).await {
        let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
    assert_eq!(hits.count(), 1);
    factory.provision(&acme).await.unwrap();
    factory.get_adapters(&acme).await.unwrap();
}

#[tokio::test]
async fn a_new_database_is_waited_for_until_it_answers() {
    let server = server().await;
    let factory = factory(&server, &context());
    server.set_warm_up(WarmUp { requests: 5, ..WarmUp::default() });
    factory.provision(&tenant("acme")).await.unwrap();
    server.set_warm_up(WarmUp { time: Duration::from_millis(700), ..WarmUp::default() });
    factory.provision(&tenant("globex")).await.unwrap();
    factory.get_adapters(&tenant("globex")).await.unwrap();
}

#[tokio::test]
async fn a_full_account_is_a_quota() {
    let server = server().await;
    let factory = factory(&server, &context());
    factory.provision(&tenant("acme")).await.unwrap();
    server.set_quota(Some(1));
    let error = factory.provision(&tenant("globex")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error:?}");
    assert_eq!(error.tenant(), Some(&tenant("globex")));
    // What is there is still there, and can be asked for again.
    factory.provision(&tenant("acme")).await.unwrap();
}

#[tokio::test]
async fn many_at_once_make_one() {
    let server = server().await;
    let context = context();
    let factories: Vec<Arc<TursoFactory>> =
        (0..4).map(|_| Arc::new(factory(&server, &context))).collect();
    let acme = tenant("acme");
    let makers = factories.iter().flat_map(|factory| [factory, factory]).map(|factory| {
        let (factory, acme) = (Arc::clone(factory), acme.clone());
        tokio::spawn(async move { factory.provision(&acme).await })
    });
    for made in futures_util::future::join_all(makers).await {
        made.unwrap().unwrap();
    }
    let data = factories[0].get_adapters(&acme).await.unwrap();
    assert_eq!(data.stamp().tenant, acme);
}

#[tokio::test]
async fn the_host_names_of_the_service_are_used_as_they_are() {
    let server = server().await;
    let context = context();
    let acme = tenant("acme");
    factory(&server, &context).provision(&acme).await.unwrap();
    // A process of its own, without anything in memory, asks the store alone.
    let before = server.api_requests().count("GET", "/databases/tenant-acme");
    let other = factory(&server, &context);
    other.get_adapters(&acme).await.unwrap();
    // The one question is whether the token that was minted is this database's.
    assert_eq!(server.api_requests().count("GET", "/databases/tenant-acme"), before + 1);
    let placement = context.placements.get(&acme).await.unwrap().unwrap();
    let found = other.platform().database("tenant-acme").await.unwrap().unwrap();
    assert_eq!(placement.attributes["hostname"], found.hostname);
    assert_eq!(placement.attributes["database_id"], found.id);
    assert!(placement.secret.is_none());
}

#[tokio::test]
async fn protection_and_suspension_are_respected_and_removed() {
    let server = server().await;
    let context = context();
    let factory = builder(&server, &context).build().unwrap();
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let protect = mt_turso::ConfigurationChange::default().with_delete_protection(true);
    factory.platform().configure("tenant-acme", &protect).await.unwrap();
    let error = factory.deprovision(&acme).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    factory.get_adapters(&acme).await.unwrap();
    let free = mt_turso::ConfigurationChange::default().with_delete_protection(false);
    factory.platform().configure("tenant-acme", &free).await.unwrap();
    factory.suspend(&acme).await.unwrap();
    factory.deprovision(&acme).await.unwrap();
    let error = factory.get_adapters(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantNotFound);
}
