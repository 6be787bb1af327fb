//! What an installation is made of, and what of it can be reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all};
use mt_core::{
    Capabilities, DatabaseFactory, DeploymentId, Error, ErrorKind, FactoryContext, Result,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Exit,
    answer::{Answer, Failure},
    application::{Site, close},
    settings::{Effective, context_to_check},
};

/// How long a provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize)]
struct Diagnosis {
    version: &'static str,
    providers: Vec<&'static str>,
    settings_file: Option<String>,
    settings: Vec<Effective>,
    migrations: usize,
    newest_migration: Option<String>,
    catalog: CatalogHealth,
    /// The one that new tenants get.
    provider: ProviderHealth,
    /// Those beside it that have settings, or tenants.
    others: Vec<ProviderHealth>,
}

#[derive(Debug, Default, Serialize)]
struct CatalogHealth {
    location: String,
    /// Nothing was made here yet; the first `provision` does.
    made: bool,
    deployment: Option<DeploymentId>,
    /// How many tenants are in each state.
    tenants: BTreeMap<&'static str, usize>,
    /// How many tenants each provider keeps.
    providers: BTreeMap<String, usize>,
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProviderHealth {
    name: String,
    /// Where its settings are right.
    capabilities: Option<Capabilities>,
    fault: Option<String>,
}

pub(super) async fn doctor(site: &Site) -> Result<Answer, Failure> {
    let (catalog, context) = look_at_catalog(site).await;
    // What is wrong with the settings of the one that new tenants get is wrong with the command.
    drop(site.settings.factory(context.clone())?);
    let mut others: BTreeSet<String> = catalog.providers.keys().cloned().collect();
    let mentioned = site.settings.other_providers().filter(|name| site.settings.mentions(name));
    others.extend(mentioned.map(str::to_owned));
    others.remove(site.settings.provider());
    let others = others.iter().map(|name| look_at_provider(site, name, context.clone()));
    let others = join_all(others).await;
    let provider = look_at_provider(site, site.settings.provider(), context).await;
    let diagnosis = Diagnosis {
        version: env!("CARGO_PKG_VERSION"),
        providers: site.settings.providers(),
        settings_file: site.settings.file().map(|file| file.display().to_string()),
        settings: site.settings.effective(),
        migrations: site.schema.names().len(),
        newest_migration: site.schema.latest().map(str::to_owned),
        catalog,
        provider,
        others,
    };
    let mut providers = diagnosis.others.iter().chain([&diagnosis.provider]);
    let well = diagnosis.catalog.fault.is_none() && providers.all(|one| one.fault.is_none());
    let json = serde_json::to_value(&diagnosis)
        .map_err(|e| Error::new(ErrorKind::Internal, "the diagnosis is not JSON").with_source(e))?;
    let exit = if well { Exit::Done } else { Exit::Failed };
    Ok(Answer { text: text_of(&diagnosis), json, exit })
}

/// Looks without making one.
async fn look_at_catalog(site: &Site) -> (CatalogHealth, FactoryContext) {
    let location = site.location().to_string();
    let mut health = CatalogHealth { location, ..CatalogHealth::default() };
    // Looking at the provider takes some deployment.
    let stranger = context_to_check(DeploymentId::random());
    let opened = match site.is_made().await {
        Ok(false) => return (health, stranger),
        Ok(true) => {
            health.made = true;
            site.location().open().await
        }
        Err(error) => Err(error),
    };
    let catalog = match opened {
        Ok(catalog) => catalog,
        Err(error) => {
            health.fault = Some(error.to_chain());
            return (health, stranger);
        }
    };
    health.deployment = Some(catalog.deployment());
    match catalog.list().await {
        Ok(records) => {
            for record in records {
                *health.tenants.entry(record.state.as_str()).or_default() += 1;
                *health.providers.entry(record.provider).or_default() += 1;
            }
        }
        Err(error) => health.fault = Some(error.to_chain()),
    }
    let context = context_to_check(catalog.deployment());
    close(&catalog).await;
    (health, context)
}

async fn look_at_provider(site: &Site, name: &str, context: FactoryContext) -> ProviderHealth {
    let is_here = name == site.settings.provider()
        || site.settings.other_providers().any(|other| other == name);
    let made = if is_here {
        site.settings.factory_of(name, context)
    } else {
        let message = format!("there are tenants of `{name}`, and no settings of it");
        Err(Error::new(ErrorKind::Config, message))
    };
    let (capabilities, fault) = match made {
        Ok(factory) => {
            let fault = reach(&*factory).await.err();
            // After it was reached: some depend on the server's version.
            (Some(factory.capabilities()), fault)
        }
        Err(error) => (None, Some(error)),
    };
    let fault = fault.map(|error| error.to_chain());
    ProviderHealth { name: name.to_owned(), capabilities, fault }
}

/// Asks for one database: any answer that is no error will do.
async fn reach(factory: &dyn DatabaseFactory) -> Result<()> {
    let mut databases = factory.list();
    let first = tokio::time::timeout(PATIENCE, databases.next()).await.map_err(|e| {
        let message = format!("no answer in {PATIENCE:?}");
        Error::new(ErrorKind::Unavailable, message).with_provider(factory.name()).with_source(e)
    })?;
    first.transpose().map(drop)
}

fn text_of(diagnosis: &Diagnosis) -> String {
    let Diagnosis { catalog, provider, others, .. } = diagnosis;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        text.push_str(&format!("{name:<13} {value}\n"));
    };
    line("version", diagnosis.version);
    line("providers", &diagnosis.providers.join(", "));
    line("settings", diagnosis.settings_file.as_deref().unwrap_or("no file"));
    for Effective { key, value, origin } in &diagnosis.settings {
        let value = match value {
            Value::Null => "none".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        line("", &format!("{key} = {value} ({origin})"));
    }
    let newest = diagnosis.newest_migration.as_deref().unwrap_or("none");
    line("migrations", &format!("{}, the newest {newest}", diagnosis.migrations));
    line("catalog", &catalog_in_words(catalog));
    if let Some(deployment) = catalog.deployment {
        line("deployment", &deployment.to_string());
    }
    for (title, one) in [("provider", provider)].into_iter().chain(others.iter().map(|o| ("", o))) {
        let reached = one.fault.as_deref().unwrap_or("answers");
        line(title, &format!("{}: {reached}", one.name));
    }
    text
}

fn catalog_in_words(catalog: &CatalogHealth) -> String {
    let location = &catalog.location;
    if let Some(fault) = &catalog.fault {
        return format!("{location}: {fault}");
    }
    if !catalog.made {
        return format!("{location}: not made yet; the first `provision` makes it");
    }
    let counts: Vec<String> =
        catalog.tenants.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let counts = if counts.is_empty() { "no tenants".to_owned() } else { counts.join(", ") };
    format!("{location}: answers, {counts}")
}
