//! The contract.

use std::sync::Arc;

use mt_conformance::Subject;

use crate::support::{ROLE_SECRET, Site, context};

async fn subject(_check: &str) -> Subject {
    let site = Site::find().await;
    let make = || Arc::new(site.factory(&context()));
    let (factory, stranger) = (make(), make());
    let password = site.url().password().unwrap().to_owned();
    Subject::new(factory, stranger).with_secret(password).with_secret(ROLE_SECRET).with_keep(site)
}

mt_conformance::conformance_suite!(subject);
