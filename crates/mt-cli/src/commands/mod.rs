//! What each command does, from an installation to an answer.

mod copies;
mod doctor;
mod fleet;
mod tenants;

use mt_control::ProviderForecast;
use mt_core::{Error, ErrorKind, TenantId};

use crate::{
    Command, Out,
    answer::{Answer, Failure},
    application::{Open, Site},
};

pub(crate) async fn answer(
    site: &Site,
    command: Command,
    json: bool,
    out: &Out,
) -> Result<Answer, Failure> {
    // These look and make nothing, not even the main tenant: they must answer in a broken
    // installation, and in a folder where there is none.
    match &command {
        Command::Doctor => return doctor::doctor(site).await,
        Command::List => return tenants::list(site).await,
        Command::Status { tenants } if tenants.is_empty() && !site.is_made().await? => {
            return Ok(tenants::nothing_here(site));
        }
        _ => {}
    }
    if !makes(&command) && !site.is_made().await? {
        return Err(no_tenant(site, &command).into());
    }
    let main = match command {
        Command::Status { .. } | Command::Backup { .. } => None,
        _ => site.settings.main_tenant().cloned(),
    };
    let open = site.open(main).await?;
    let outcome = Box::pin(work(site, &open, command, json, out)).await;
    open.close().await;
    outcome
}

async fn work(
    site: &Site,
    open: &Open,
    command: Command,
    json: bool,
    out: &Out,
) -> Result<Answer, Failure> {
    match command {
        Command::Provision { tenant, if_not_exists } => {
            tenants::provision(open, &tenant, if_not_exists, out).await
        }
        Command::Deprovision { tenant, confirm: _ } => tenants::deprovision(open, &tenant).await,
        Command::Suspend { tenant } => tenants::suspend(open, &tenant).await,
        Command::Activate { tenant } => tenants::activate(open, &tenant).await,
        Command::Status { tenants } => tenants::status(open, tenants, out).await,
        Command::Backup { tenant, to } => copies::backup(site, open, &tenant, to).await,
        Command::Restore { tenant, from, restore_as } => {
            copies::restore(open, &tenant, &from, restore_as).await
        }
        Command::MigrateAll(args) => fleet::migrate_all(open, args, json, out).await,
        Command::List => tenants::list(site).await,
        Command::Doctor => doctor::doctor(site).await,
    }
}

/// Says beforehand what a command will cost. A remark: the answer is not known yet.
fn tell(told: &ProviderForecast, out: &Out) {
    let ProviderForecast { provider, forecast, .. } = told;
    out.remark(format_args!("{forecast} at the rate limit of {provider}, unless others spend it"));
}

/// Whether a command makes the installation where there is none.
const fn makes(command: &Command) -> bool {
    matches!(
        command,
        Command::Provision { .. }
            | Command::MigrateAll(_)
            | Command::Restore { restore_as: Some(_), .. }
    )
}

/// The answer for a tenant in a folder where there is no installation: making one on the way would
/// hide that it is the wrong folder.
fn no_tenant(site: &Site, command: &Command) -> Error {
    let message = format!("there is no tenant: there is no catalog {}", site.location());
    let error = Error::new(ErrorKind::TenantNotFound, message);
    match named(command) {
        Some(tenant) => error.with_tenant(tenant),
        None => error,
    }
}

fn named(command: &Command) -> Option<&TenantId> {
    match command {
        Command::Provision { tenant, .. }
        | Command::Deprovision { tenant, .. }
        | Command::Suspend { tenant }
        | Command::Activate { tenant }
        | Command::Backup { tenant, .. }
        | Command::Restore { tenant, .. } => Some(tenant),
        Command::Status { tenants } => tenants.first(),
        Command::List | Command::MigrateAll(_) | Command::Doctor => None,
    }
}
