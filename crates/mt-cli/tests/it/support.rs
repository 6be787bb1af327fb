use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use mt_cli::{Application, Exit, Out};
use mt_d1 as _;
use mt_migration::Migrator;
use mt_postgres as _;
use mt_sqlite as _;
use mt_turso as _;
use sea_orm_migration::MigratorTrait;
use serde_json::Value;
use tempfile::TempDir;

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

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.exit, Exit::Done, "{self:?}");
        self
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let json = serde_json::from_str(&self.out);
        assert!(json.is_ok(), "{self:?}");
        json.unwrap()
    }
}

/// A data folder of its own.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// The data folder; it is not there yet.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where a test can put files of its own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn tenant_file(&self, tenant: &str) -> PathBuf {
        self.data().join(format!("tenants/tenant_{tenant}.sqlite"))
    }

    /// Runs a command line, `mt` left out.
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        self.run_as(&Application::<Migrator>::new(), args).await
    }

    pub(crate) async fn run_as<M: MigratorTrait>(
        &self,
        application: &Application<M>,
        args: &[&str],
    ) -> Ran {
        self.run_in(application, &[], args).await
    }

    /// With these variables beside the data folder's.
    pub(crate) async fn run_in<M: MigratorTrait>(
        &self,
        application: &Application<M>,
        environment: &[(&str, String)],
        args: &[&str],
    ) -> Ran {
        let (out, err) = (Buffer::default(), Buffer::default());
        let args = ["mt"].iter().chain(args).map(ToString::to_string);
        let data = ("MT_DATA_DIR".into(), self.data().into_os_string());
        let others = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let environment: Vec<(OsString, OsString)> = others.chain([data]).collect();
        let application = application.clone().with_environment(environment);
        let exit = application.run_from(args, &Out::new(out.clone(), err.clone())).await;
        Ran { exit, out: out.text(), err: err.text() }
    }

    /// Every file below the data folder.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            let Ok(entries) = std::fs::read_dir(folder) else { return };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.data(), &mut found);
        found.sort();
        found
    }
}
