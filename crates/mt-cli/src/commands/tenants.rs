//! One tenant's life, and what is known of all.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::HumanBytes;
use mt_control::{TenantRecord, TenantStatus};
use mt_core::{ErrorKind, TenantId, TenantState};
use serde_json::json;

use crate::{
    Exit, Out,
    answer::{Answer, Failure, table},
    application::{Open, Site, close},
};

/// How many databases `status` looks into at once.
const LOOKS: usize = 8;

pub(super) async fn provision(
    open: &Open,
    tenant: &TenantId,
    if_not_exists: bool,
    out: &Out,
) -> Result<Answer, Failure> {
    if let Some(told) = open.tenants.forecast_provision(1)
        && !open.catalog.find(tenant).await?.is_some_and(|record| is_kept(record.state))
    {
        super::tell(&told, out);
    }
    let (record, created) = match open.tenants.provision(tenant).await {
        Ok(record) => (record, true),
        Err(error) if if_not_exists && error.kind() == ErrorKind::TenantExists => {
            // It may be another that differs only by case, or one that is being removed.
            let there = open.catalog.find(tenant).await?;
            let there = there.filter(|record| is_kept(record.state));
            (there.ok_or(error)?, false)
        }
        Err(error) => return Err(error.into()),
    };
    let text = if created {
        format!("provisioned {}", summary(&record))
    } else {
        format!("{} is there already", summary(&record))
    };
    Ok(Answer::done(text, json!({"tenant": record, "created": created})))
}

pub(super) async fn deprovision(open: &Open, tenant: &TenantId) -> Result<Answer, Failure> {
    open.tenants.deprovision(tenant).await?;
    let json = json!({"tenant": open.catalog.find(tenant).await?});
    Ok(Answer::done(format!("deprovisioned {tenant}"), json))
}

pub(super) async fn suspend(open: &Open, tenant: &TenantId) -> Result<Answer, Failure> {
    open.tenants.suspend(tenant).await?;
    let json = json!({"tenant": open.catalog.get(tenant).await?});
    Ok(Answer::done(format!("suspended {tenant}"), json))
}

pub(super) async fn activate(open: &Open, tenant: &TenantId) -> Result<Answer, Failure> {
    open.tenants.activate(tenant).await?;
    let json = json!({"tenant": open.catalog.get(tenant).await?});
    Ok(Answer::done(format!("activated {tenant}"), json))
}

/// The answer where there is no installation.
pub(super) fn nothing_here(site: &Site) -> Answer {
    let text = format!("no tenants: there is no catalog {}", site.location());
    Answer::done(text, json!({"tenants": []}))
}

pub(super) async fn list(site: &Site) -> Result<Answer, Failure> {
    if !site.is_made().await? {
        return Ok(nothing_here(site));
    }
    let catalog = site.location().open().await?;
    let records = catalog.list().await;
    close(&catalog).await;
    let records = records?;
    if records.is_empty() {
        return Ok(Answer::done("no tenants", json!({"tenants": []})));
    }
    let rows = records.iter().map(|record| {
        vec![
            record.tenant.to_string(),
            record.state.to_string(),
            version(record.schema_version.as_deref()),
            record.provider.clone(),
            record.created_at.format("%Y-%m-%d %H:%M UTC").to_string(),
        ]
    });
    let mut text = table(&["TENANT", "STATE", "SCHEMA", "PROVIDER", "CREATED"], rows);
    note_errors(&mut text, &records);
    Ok(Answer::done(text, json!({"tenants": records})))
}

pub(super) async fn status(
    open: &Open,
    named: Vec<TenantId>,
    out: &Out,
) -> Result<Answer, Failure> {
    let tenants: Vec<TenantId> = if named.is_empty() {
        let records = open.catalog.list().await?;
        records.into_iter().map(|record| record.tenant).collect()
    } else {
        named
    };
    // A few are looked at before one has read that it takes no time.
    for told in open.tenants.forecast_status(&tenants).await? {
        if !told.forecast.duration.is_zero() {
            super::tell(&told, out);
        }
    }
    let looks = tenants.iter().map(|tenant| open.tenants.status(tenant));
    let all: Vec<TenantStatus> = stream::iter(looks).buffered(LOOKS).try_collect().await?;
    let broken = all.iter().any(|one| one.fault.is_some() && is_kept(one.record.state));
    let exit = if broken { Exit::Failed } else { Exit::Done };
    let text = if all.is_empty() { "no tenants".to_owned() } else { status_text(&all) };
    Ok(Answer { text, json: json!({"tenants": all}), exit })
}

fn status_text(all: &[TenantStatus]) -> String {
    let rows = all.iter().map(|one| {
        let seen = one.schema.as_ref().map(|schema| schema.schema_version.as_deref());
        let size = one.database.as_ref().and_then(|database| database.size_bytes);
        vec![
            one.record.tenant.to_string(),
            one.record.state.to_string(),
            one.record.provider.clone(),
            version(seen.unwrap_or(one.record.schema_version.as_deref())),
            one.schema.as_ref().map_or(dash(), |schema| schema.pending.len().to_string()),
            size.map_or(dash(), |bytes| HumanBytes(bytes).to_string()),
        ]
    });
    let mut text = table(&["TENANT", "STATE", "PROVIDER", "SCHEMA", "PENDING", "SIZE"], rows);
    for one in all {
        if let Some(fault) = &one.fault {
            text.push_str(&format!("{}: {fault}\n", one.record.tenant));
        }
    }
    note_errors(&mut text, all.iter().map(|one| &one.record));
    text
}

fn note_errors<'a>(text: &mut String, records: impl IntoIterator<Item = &'a TenantRecord>) {
    for record in records {
        if let Some(error) = &record.last_error {
            text.push_str(&format!("{}: last error: {error}\n", record.tenant));
        }
    }
}

/// Whether a tenant in this state should have a database.
const fn is_kept(state: TenantState) -> bool {
    matches!(state, TenantState::Active | TenantState::Suspended)
}

/// A tenant in a few words.
pub(super) fn summary(record: &TenantRecord) -> String {
    let schema = version(record.schema_version.as_deref());
    format!("{} ({}, {}, schema {schema})", record.tenant, record.state, record.provider)
}

fn version(version: Option<&str>) -> String {
    version.map_or_else(dash, str::to_owned)
}

fn dash() -> String {
    "-".to_owned()
}
