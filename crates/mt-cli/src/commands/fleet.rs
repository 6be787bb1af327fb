//! One schema for all tenants.

use indicatif::{ProgressBar, ProgressStyle};
use mt_control::{FleetReport, MigrateAll, Outcome, TenantMigration};
use serde_json::json;

use crate::{
    Exit, MigrateAllArgs, Out,
    answer::{Answer, Failure},
    application::Open,
};

pub(super) async fn migrate_all(
    open: &Open,
    args: MigrateAllArgs,
    json: bool,
    out: &Out,
) -> Result<Answer, Failure> {
    let dry_run = args.dry_run;
    let mut options = MigrateAll::default()
        .with_skip(args.skip)
        .with_jobs(args.jobs.get())
        .with_dry_run(dry_run)
        .with_verify(args.verify);
    if let Some(tenants) = args.tenants {
        options = options.with_tenants(tenants);
    }
    for told in open.tenants.forecast_migrate_all(&options).await? {
        super::tell(&told, out);
    }
    let bar = progress_bar(out.is_terminal() && !json);
    if !json {
        let (bar, out) = (bar.clone(), out.clone());
        options = options.with_progress(move |one, total| {
            bar.set_length(total as u64);
            bar.inc(1);
            if let Some(line) = line_of(one) {
                bar.suspend(|| out.line(line));
            }
        });
    }
    let report = open.tenants.migrate_all(options).await;
    bar.finish_and_clear();
    let report = report?;
    let counts = Counts::of(&report);
    let exit = if counts.failed > 0 { Exit::Failed } else { Exit::Done };
    let json = json!({
        "dry_run": dry_run,
        "counts": counts.to_json(),
        "millis": report.millis,
        "tenants": report.tenants,
    });
    Ok(Answer { text: text_of(&report, &counts), json, exit })
}

/// A bar on standard error; without a terminal, nothing.
fn progress_bar(visible: bool) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    // The template is ours; if it were wrong, the bar would look different and count the same.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} tenants, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// What there is to say of one tenant: nothing, where nothing was to be done.
fn line_of(one: &TenantMigration) -> Option<String> {
    let tenant = &one.tenant;
    match &one.outcome {
        Outcome::Migrated { ran, not_atomic } => {
            let torn = match not_atomic.as_slice() {
                [] => String::new(),
                names => format!(", not atomically: {}", names.join(", ")),
            };
            Some(format!("{tenant}: applied {} in {} ms{torn}", ran.join(", "), one.millis))
        }
        Outcome::Pending { pending } => Some(format!("{tenant}: pending {}", pending.join(", "))),
        Outcome::Skipped { reason } => Some(format!("{tenant}: skipped, {reason}")),
        Outcome::Failed { .. } => Some(format!("{tenant}: failed")),
        _ => None,
    }
}

#[derive(Default)]
struct Counts {
    migrated: usize,
    up_to_date: usize,
    pending: usize,
    skipped: usize,
    failed: usize,
}

impl Counts {
    fn of(report: &FleetReport) -> Self {
        let mut counts = Self::default();
        for one in &report.tenants {
            match one.outcome {
                Outcome::Migrated { .. } => counts.migrated += 1,
                Outcome::UpToDate => counts.up_to_date += 1,
                Outcome::Pending { .. } => counts.pending += 1,
                Outcome::Failed { .. } => counts.failed += 1,
                // A kind of outcome that is added later says more about itself in the report.
                _ => counts.skipped += 1,
            }
        }
        counts
    }

    const fn named(&self) -> [(&'static str, usize); 5] {
        [
            ("migrated", self.migrated),
            ("up_to_date", self.up_to_date),
            ("pending", self.pending),
            ("skipped", self.skipped),
            ("failed", self.failed),
        ]
    }

    fn to_json(&self) -> serde_json::Value {
        self.named().into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
    }
}

fn text_of(report: &FleetReport, counts: &Counts) -> String {
    let said: Vec<String> = counts
        .named()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {}", name.replace('_', " ")))
        .collect();
    let said = if said.is_empty() { "no tenants".to_owned() } else { said.join(", ") };
    let mut text = format!("{said} ({} ms)", report.millis);
    for one in report.failed() {
        if let Outcome::Failed { error } = &one.outcome {
            text.push_str(&format!("\n{}: {}", one.tenant, error.to_chain()));
        }
    }
    text
}
