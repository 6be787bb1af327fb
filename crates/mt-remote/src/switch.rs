use mt_core::{Error, ErrorKind, Placement, PlacementStore, TenantId};

/// Why a placement was not switched.
#[derive(Debug)]
pub enum NotSwitched {
    /// It is as it was.
    Refused(Error),
    /// It may have been.
    Unknown(Error),
}

/// Switches the placement of `tenant`, and looks where the store's answer was lost.
///
/// # Errors
/// [`NotSwitched`].
pub async fn switch_placement(
    placements: &dyn PlacementStore,
    tenant: &TenantId,
    before: &Placement,
    after: &Placement,
) -> Result<(), NotSwitched> {
    let Err(error) = placements.compare_and_set(tenant, before, after).await else {
        return Ok(());
    };
    let is_refusal = [ErrorKind::Conflict, ErrorKind::TenantNotFound, ErrorKind::Unsupported]
        .contains(&error.kind());
    match placements.get(tenant).await {
        // The store has switched and lost its answer; or the new database was adopted by somebody
        // who found it where the tenant had none.
        Ok(Some(now)) if now == *after => Ok(()),
        Ok(Some(now)) if now == *before => Err(NotSwitched::Refused(error)),
        _ if is_refusal => Err(NotSwitched::Refused(error)),
        _ => Err(NotSwitched::Unknown(error)),
    }
}
