//! The contract.

use std::sync::Arc;

use futures_util::StreamExt as _;
use mt_conformance::Subject;
use mt_core::DatabaseFactory as _;

use crate::support::{ROLE_SECRET, Site, context};

async fn subject(_check: &str) -> Subject {
    let site = Site::find().await;
    let make = || Arc::new(site.factory(&context()));
    let (factory, stranger) = (make(), make());
    for factory in [&factory, &stranger] {
        // From here on it knows the server's version, and so whether it can copy.
        assert_eq!(factory.list().count().await, 0);
    }
    let password = site.url().password().unwrap().to_owned();
    Subject::new(factory, stranger).with_secret(password).with_secret(ROLE_SECRET).with_keep(site)
}

mt_conformance::conformance_suite!(subject);
