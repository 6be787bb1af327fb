//! What work will cost of the token's rate.

use mt_core::{Forecast, Work};

use crate::D1Factory;

/// Making a database: `POST` for it, and one batch with stamp and schema.
const PROVISION: u64 = 2;
/// Looking, and one batch with all that is pending.
const MIGRATE: u64 = 2;
/// Looking.
const LOOK: u64 = 1;

impl D1Factory {
    pub(crate) fn foresee(&self, work: Work) -> Forecast {
        let bookmark = u64::from(self.config.bookmark_before_migrations);
        let parts = [
            work.provisions.saturating_mul(PROVISION),
            work.migrations.saturating_mul(MIGRATE + bookmark),
            work.looks.saturating_mul(LOOK),
        ];
        let requests = parts.into_iter().fold(0, u64::saturating_add);
        let most = u32::try_from(requests).unwrap_or(u32::MAX);
        Forecast { requests, duration: self.budget.forecast(most) }
    }
}
