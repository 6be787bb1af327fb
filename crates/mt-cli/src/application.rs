use std::{
    collections::BTreeMap, ffi::OsString, fmt, marker::PhantomData, process::ExitCode, sync::Arc,
};

use mt_control::{AccessControl, Catalog, CatalogLocation, DatabaseIsolation, MultiTenancy};
use mt_core::{Error, Result, TenantId};
use mt_migration::Runner;
use sea_orm_migration::MigratorTrait;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    Cli, Command, Exit, Options, Out,
    answer::{Answer, Failure, report},
    commands, parse,
    settings::Settings,
};

type Isolate = Arc<dyn Fn(DatabaseIsolation) -> DatabaseIsolation + Send + Sync>;

/// The command line of an application whose tenants have the schema of migrator `M`.
///
/// Cheap to clone.
pub struct Application<M> {
    isolate: Option<Isolate>,
    environment: Option<Vec<(OsString, OsString)>>,
    advice: BTreeMap<&'static str, &'static str>,
    migrator: PhantomData<fn() -> M>,
}

/// The whole program, for an application that adds nothing: `fn main() -> ExitCode { mt_cli::main::<Migrator>() }`.
pub fn main<M: MigratorTrait>() -> ExitCode {
    Application::<M>::new().main()
}

/// Logs to standard error: warnings, with 1 steps too, with 2 or more details. `RUST_LOG` has the
/// last word. Does nothing where logging is set up already.
pub fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would be reported on the same stream, and a failure there is a panic.
        .log_internal_errors(false);
    // An application that embeds us may have set up its own.
    drop(logging.try_init());
}

impl<M: MigratorTrait> Application<M> {
    /// An application without seed and hooks.
    pub fn new() -> Self {
        Self { isolate: None, environment: None, advice: BTreeMap::new(), migrator: PhantomData }
    }

    /// Adds what the application does to its tenants: a seed, hooks, a layer around the factory.
    /// The service should be given the same, or it makes other tenants than the command line.
    #[must_use]
    pub fn with_isolation(
        mut self,
        isolate: impl Fn(DatabaseIsolation) -> DatabaseIsolation + Send + Sync + 'static,
    ) -> Self {
        self.isolate = Some(Arc::new(isolate));
        self
    }

    /// Takes settings from these variables. Default: the process's environment.
    #[must_use]
    pub fn with_environment<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let pairs = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.environment = Some(pairs.collect());
        self
    }

    /// What is said below an error in the settings of `provider`: how this application's people get
    /// right ones.
    #[must_use]
    pub fn with_advice(mut self, provider: &'static str, advice: &'static str) -> Self {
        self.advice.insert(provider, advice);
        self
    }

    /// The whole program: reads the process's arguments, logs to standard error, and starts a
    /// runtime of its own.
    pub fn main(&self) -> ExitCode {
        let out = Out::standard();
        let cli: Cli = match parse(std::env::args_os(), &out) {
            Ok(cli) => cli,
            Err(exit) => return exit.into(),
        };
        log_to_stderr(cli.options.verbose);
        match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.execute(&cli.options, cli.command, &out)).into(),
            Err(error) => {
                out.remark(format_args!("error: the runtime could not be started: {error}"));
                Exit::Failed.into()
            }
        }
    }

    /// Parses a command line, the program's name first, and does what it says.
    pub async fn run_from(
        &self,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        out: &Out,
    ) -> Exit {
        let parsed: Result<Cli, Exit> = parse(args, out);
        match parsed {
            Ok(cli) => self.execute(&cli.options, cli.command, out).await,
            Err(exit) => exit,
        }
    }

    /// Does one command, and writes what it came to.
    pub async fn execute(&self, options: &Options, command: Command, out: &Out) -> Exit {
        let outcome = Box::pin(self.answer(options, command, out)).await;
        report(&outcome, options.json, out)
    }

    async fn answer(
        &self,
        options: &Options,
        command: Command,
        out: &Out,
    ) -> Result<Answer, Failure> {
        command.check()?;
        let settings = match &self.environment {
            Some(environment) => Settings::load_from(options, environment.iter().cloned()),
            None => Settings::load(options),
        };
        let site = Site {
            settings: settings.map_err(|error| self.advised(error))?,
            schema: Runner::of::<M>().map_err(Failure::settings)?,
            isolate: self.isolate.clone(),
        };
        commands::answer(&site, command, options.json, out).await
    }

    fn advised(&self, error: Error) -> Failure {
        let advice = error.provider().and_then(|provider| self.advice.get(provider)).copied();
        Failure::Settings { error, advice }
    }
}

/// One installation, before it is opened.
pub(crate) struct Site {
    pub(crate) settings: Settings,
    pub(crate) schema: Runner,
    isolate: Option<Isolate>,
}

/// An installation that was opened. Close it.
pub(crate) struct Open {
    pub(crate) catalog: Catalog,
    pub(crate) tenants: MultiTenancy,
}

impl Site {
    /// Where the catalog is.
    pub(crate) fn location(&self) -> &CatalogLocation {
        self.settings.catalog()
    }

    /// Whether anything was ever made here.
    pub(crate) async fn is_made(&self) -> Result<bool> {
        self.location().is_made().await
    }

    /// Opens it, `main` being the main tenant: that is made then, if it is not there.
    pub(crate) async fn open(&self, main: Option<TenantId>) -> Result<Open> {
        let catalog = self.location().open().await?;
        match self.tenants(&catalog, main).await {
            Ok(tenants) => Ok(Open { catalog, tenants }),
            Err(error) => {
                close(&catalog).await;
                Err(error)
            }
        }
    }

    async fn tenants(&self, catalog: &Catalog, main: Option<TenantId>) -> Result<MultiTenancy> {
        let isolation = self.settings.isolation(&catalog.context(&self.schema))?;
        let isolation = match &self.isolate {
            Some(isolate) => isolate(isolation),
            None => isolation,
        };
        let mut builder = MultiTenancy::builder()
            .with_catalog(catalog.clone())
            .with_database_isolation(isolation)
            .with_schema(self.schema.clone());
        if let Some(main_tenant_id) = main {
            builder = builder.with_access_control(AccessControl { main_tenant_id });
        }
        builder.build().await
    }
}

impl Open {
    /// Closes every database and the catalog.
    pub(crate) async fn close(self) {
        if let Err(error) = self.tenants.shutdown().await {
            tracing::warn!(error = %error.to_chain(), "a tenant's database did not close");
        }
        close(&self.catalog).await;
    }
}

pub(crate) async fn close(catalog: &Catalog) {
    if let Err(error) = catalog.close().await {
        tracing::warn!(error = %error.to_chain(), "the catalog did not close");
    }
}

impl<M: MigratorTrait> Default for Application<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for Application<M> {
    fn clone(&self) -> Self {
        Self {
            isolate: self.isolate.clone(),
            environment: self.environment.clone(),
            advice: self.advice.clone(),
            migrator: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Application<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("isolate", &self.isolate.is_some())
            .finish_non_exhaustive()
    }
}
