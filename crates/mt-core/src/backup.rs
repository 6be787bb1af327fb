use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{DeploymentId, Error, ErrorKind, Generation, Result, TenantId};

/// What a backup is a copy of. Travels with it; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The version of this description: [`BackupManifest::FORMAT`].
    pub format: u32,
    /// What the copy is made of, such as `sqlite-file`. A factory restores only what it knows.
    pub encoding: String,
    /// The installation it was taken in.
    pub deployment: DeploymentId,
    /// The tenant it was taken of.
    pub tenant: TenantId,
    /// The generation it was taken of.
    pub generation: Generation,
    /// The newest applied migration in it.
    pub schema_version: Option<String>,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
    /// How long the copy is, in bytes.
    pub size_bytes: u64,
    /// The SHA-256 of the copy, in lower-case hexadecimal.
    pub sha256: String,
    /// How many rows each table has.
    pub rows: BTreeMap<String, u64>,
}

impl BackupManifest {
    /// The version this library writes.
    pub const FORMAT: u32 = 1;

    /// Refuses what can be refused before the copy is read, on behalf of `provider`, which restores
    /// copies of one `encoding` to `tenant` in `deployment`.
    ///
    /// # Errors
    /// `Unsupported`: the copy is of another encoding, or this description of a version that this
    /// library does not know. `ForeignDatabase`: it is another's copy, and `options` do not allow a
    /// new stamp.
    pub fn check(
        &self,
        provider: &'static str,
        encoding: &str,
        deployment: DeploymentId,
        tenant: &TenantId,
        options: RestoreOptions,
    ) -> Result<()> {
        if self.encoding != encoding || self.format != Self::FORMAT {
            let what = format!(
                "restore a copy of encoding `{}`, format {}; expected `{encoding}`, format {}",
                self.encoding,
                self.format,
                Self::FORMAT
            );
            return Err(Error::unsupported(provider, what));
        }
        let is_own = self.tenant == *tenant && self.deployment == deployment;
        if is_own || options.restamp {
            return Ok(());
        }
        let message = format!(
            "the copy is of tenant `{}` in deployment {}; to make it this tenant's, allow a new stamp (`restamp`; on the command line `--as`)",
            self.tenant, self.deployment
        );
        Err(Error::new(ErrorKind::ForeignDatabase, message))
    }
}

/// What a restore may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Takes a copy of another tenant or deployment and stamps it anew.
    pub restamp: bool,
}

impl RestoreOptions {
    /// Allows a copy of another tenant or deployment.
    #[must_use]
    pub const fn with_restamp(mut self, restamp: bool) -> Self {
        self.restamp = restamp;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_restored_is() {
        let good = BackupManifest {
            format: BackupManifest::FORMAT,
            encoding: "sqlite-file".to_owned(),
            deployment: DeploymentId::random(),
            tenant: TenantId::new("acme").unwrap(),
            generation: Generation::FIRST,
            schema_version: None,
            created_at: Utc::now(),
            size_bytes: 0,
            sha256: String::new(),
            rows: BTreeMap::new(),
        };
        let check = |tenant: &str, manifest: &BackupManifest, restamp| {
            let tenant = TenantId::new(tenant).unwrap();
            let options = RestoreOptions::default().with_restamp(restamp);
            let checked = manifest.check("test", "sqlite-file", good.deployment, &tenant, options);
            checked.map_err(|e| e.kind())
        };
        assert_eq!(check("acme", &good, false), Ok(()));
        assert_eq!(check("other", &good, false), Err(ErrorKind::ForeignDatabase));
        assert_eq!(check("other", &good, true), Ok(()));
        let elsewhere = BackupManifest { deployment: DeploymentId::random(), ..good.clone() };
        assert_eq!(check("acme", &elsewhere, false), Err(ErrorKind::ForeignDatabase));
        assert_eq!(check("acme", &elsewhere, true), Ok(()));
        let other = BackupManifest { encoding: "pg-dump".to_owned(), ..good.clone() };
        assert_eq!(check("acme", &other, true), Err(ErrorKind::Unsupported));
        let newer = BackupManifest { format: BackupManifest::FORMAT + 1, ..good.clone() };
        assert_eq!(check("acme", &newer, true), Err(ErrorKind::Unsupported));
    }
}
