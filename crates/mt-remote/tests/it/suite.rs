use std::sync::Arc;

use mt_remote::{Decoder, RemoteDriver, conformance::DriverSubject, driver_conformance_suite};

use crate::local::Local;

async fn setup(_check: &str) -> DriverSubject {
    let directory = tempfile::tempdir().unwrap();
    let protocol = Local::open(&directory.path().join("database"));
    let driver = RemoteDriver::new(protocol, Decoder::new(2));
    DriverSubject::new(Arc::new(driver)).with_keep(directory)
}

driver_conformance_suite!(setup);
