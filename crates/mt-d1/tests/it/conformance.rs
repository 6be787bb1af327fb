//! The contract, with a placement store and without one.

use std::{sync::Arc, time::Duration};

use mt_conformance::Subject;
use mt_core::FactoryContext;

use crate::support::{builder, context, server, without_store};

async fn subject(context: fn() -> FactoryContext) -> Subject {
    let server = server().await;
    let make = || {
        let builder = builder(&server, &context());
        Arc::new(builder.with_drain_timeout(Duration::from_secs(5)).build().unwrap())
    };
    let (factory, stranger) = (make(), make());
    let token = server.api_token().to_owned();
    Subject::new(factory, stranger).with_secret(token).with_keep(server)
}

async fn with_store(_check: &str) -> Subject {
    subject(context).await
}

mt_conformance::conformance_suite!(with_store);

mod without_a_placement_store {
    use super::*;

    async fn embedded(_check: &str) -> Subject {
        subject(without_store).await
    }

    mt_conformance::conformance_suite!(embedded);
}
