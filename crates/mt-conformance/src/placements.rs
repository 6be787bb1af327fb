use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use mt_core::{Error, ErrorKind, Generation, Placement, PlacementStore, Result, TenantId};

/// Placements as a catalog keeps them, for as long as a test takes: every tenant is there from the
/// start, with its first generation, and can be moved.
///
/// A provider that restores needs a store that can change; give its factory this one in tests.
#[derive(Debug, Default)]
pub struct MemoryPlacements(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    placements: HashMap<TenantId, Placement>,
    fault: Option<PlacementFault>,
    is_silent: bool,
}

/// How a store of placements fails when it is asked for a change: it does not answer, and whoever
/// asked has to find out whether the change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlacementFault {
    /// The change is made, and the answer is lost.
    Made,
    /// The change is not made.
    NotMade,
    /// The change is not made, and no question is answered any more.
    Silent,
}

impl MemoryPlacements {
    /// From now on fails so, or no more.
    pub fn fail(&self, fault: Option<PlacementFault>) {
        let mut state = self.state();
        state.fault = fault;
        state.is_silent = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Unavailable, "the store does not answer")
}

#[async_trait]
impl PlacementStore for MemoryPlacements {
    async fn get(&self, tenant: &TenantId) -> Result<Option<Placement>> {
        let state = self.state();
        if state.is_silent {
            return Err(no_answer());
        }
        let first = Placement::derived(Generation::FIRST);
        Ok(Some(state.placements.get(tenant).cloned().unwrap_or(first)))
    }

    async fn compare_and_set(
        &self,
        tenant: &TenantId,
        expected: &Placement,
        new: &Placement,
    ) -> Result<()> {
        let mut state = self.state();
        let fault = state.fault;
        if let Some(fault @ (PlacementFault::NotMade | PlacementFault::Silent)) = fault {
            state.is_silent = fault == PlacementFault::Silent;
            return Err(no_answer());
        }
        let current = state
            .placements
            .entry(tenant.clone())
            .or_insert_with(|| Placement::derived(Generation::FIRST));
        if current != expected {
            return Err(
                Error::new(ErrorKind::Conflict, "the placement has changed").with_tenant(tenant)
            );
        }
        *current = new.clone();
        drop(state);
        if fault.is_some() { Err(no_answer()) } else { Ok(()) }
    }

    fn can_change(&self) -> bool {
        true
    }
}
