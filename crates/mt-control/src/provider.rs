//! A catalog may have tenants of several providers; a program runs with one of them.

use mt_core::{DatabaseFactory as _, Error, ErrorKind, Result, TenantState};

use crate::{TenantRecord, multi_tenancy::Inner};

impl Inner {
    /// Why this program cannot do anything to the tenant's database, where another provider keeps
    /// it: the factory here would make, serve or remove another of the same name.
    ///
    /// A deleted tenant has no database, and its next one may be anywhere.
    pub(crate) fn elsewhere(&self, record: &TenantRecord) -> Option<String> {
        let (theirs, ours) = (record.provider.as_str(), self.cached.name());
        let is_here = theirs == ours || record.state == TenantState::Deleted;
        (!is_here).then(|| {
            format!("the tenant's database is kept by `{theirs}`, and this program runs with `{ours}`; run it with the provider `{theirs}`")
        })
    }

    /// Refuses a tenant whose database is kept by another provider, before anything is done.
    ///
    /// # Errors
    /// `Config`.
    pub(crate) fn require_here(&self, record: &TenantRecord) -> Result<()> {
        match self.elsewhere(record) {
            Some(why) => Err(Error::new(ErrorKind::Config, why).with_tenant(&record.tenant)),
            None => Ok(()),
        }
    }
}
