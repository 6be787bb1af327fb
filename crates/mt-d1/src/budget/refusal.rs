//! What is said to whom the budget does not let go.

use std::time::Duration;

use mt_core::{Error, ErrorKind};

use super::Lane;

/// Everything pauses for longer than the request can wait.
pub(super) fn paused(pause: Duration, lane: &Lane) -> Error {
    let seconds = pause.as_secs_f64().ceil();
    unavailable(
        format!(
            "the API token's rate is overrun: the service refuses every request of it for another \
             {seconds} s, and nothing was sent"
        ),
        lane,
    )
}

/// So many are in line that the request's turn would come too late.
pub(super) fn too_long(wait: Duration, patience: Duration, waiting: u32, lane: &Lane) -> Error {
    unavailable(
        format!(
            "the API token's rate would let this request go in about {:.1} s, with {waiting} \
             requests in line, and it can wait for {:.1} s; nothing was sent",
            wait.as_secs_f64(),
            patience.as_secs_f64()
        ),
        lane,
    )
}

/// The request has waited as long as it can.
pub(super) fn timed_out(waited: Duration, waiting: u32, lane: &Lane) -> Error {
    unavailable(
        format!(
            "the API token's rate did not let this request go within {:.1} s, with {waiting} \
             requests in line; nothing was sent",
            waited.as_secs_f64()
        ),
        lane,
    )
}

fn unavailable(message: String, lane: &Lane) -> Error {
    let error = Error::new(ErrorKind::Unavailable, message).with_provider(crate::NAME);
    match lane {
        Lane::Control => error,
        Lane::Tenant(tenant) => error.with_tenant(tenant),
    }
}
