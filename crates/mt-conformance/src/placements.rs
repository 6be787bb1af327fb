use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use mt_core::{Error, ErrorKind, Generation, Placement, PlacementStore, Result, TenantId};

/// Placements as a catalog keeps them, for as long as a test takes: every tenant is there from the
/// start, with its first generation, and can be moved.
///
/// A provider that restores needs a store that can change; give its factory this one in tests.
#[derive(Debug, Default)]
pub struct MemoryPlacements(Mutex<HashMap<TenantId, Placement>>);

#[async_trait]
impl PlacementStore for MemoryPlacements {
    async fn get(&self, tenant: &TenantId) -> Result<Option<Placement>> {
        let placements = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = Placement::derived(Generation::FIRST);
        Ok(Some(placements.get(tenant).cloned().unwrap_or(first)))
    }

    async fn compare_and_set(
        &self,
        tenant: &TenantId,
        expected: &Placement,
        new: &Placement,
    ) -> Result<()> {
        let mut placements = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = placements
            .entry(tenant.clone())
            .or_insert_with(|| Placement::derived(Generation::FIRST));
        if current != expected {
            return Err(
                Error::new(ErrorKind::Conflict, "the placement has changed").with_tenant(tenant)
            );
        }
        *current = new.clone();
        Ok(())
    }

    fn can_change(&self) -> bool {
        true
    }
}
