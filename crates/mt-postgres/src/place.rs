//! Where a tenant's database is, and what the server says of it.

use mt_core::{DeploymentId, Generation, Result, Stamp, TenantId};
use sqlx::{Row as _, postgres::PgRow};

use crate::{admin::Admin, comment::Comment, error::Error, names::Identity};

// Each database's owner and comment are looked up by its row: for joins the server would have to guess
// how many there are, which it does badly in catalogs that nobody analyzed.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT datname::text, pg_get_userbyid(datdba)::text, datallowconn, \
             (SELECT description FROM pg_shdescription \
              WHERE objoid = d.oid AND classoid = 'pg_database'::regclass), \
             datconnlimit = -2 \
             FROM pg_database d ",
            $which
        )
    };
}

/// A database that is there.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// Which roles are its; `None`: it is owned by a role that is not of ours.
    pub(crate) identity: Option<Identity>,
    pub(crate) comment: Option<Comment>,
    /// Whether it takes connections.
    pub(crate) is_open: bool,
    /// A `DROP DATABASE` did not come to its end: all that can be done with it is to drop it.
    pub(crate) is_half_dropped: bool,
}

impl Place {
    /// The databases of these names that are there.
    pub(crate) async fn find(
        admin: &Admin,
        prefix: &str,
        names: &[String],
    ) -> Result<Vec<Self>, Error> {
        const SELECT: &str = select!("JOIN unnest($1::name[]) AS wanted ON datname = wanted");
        let action = "look for the tenant's database";
        let rows = sqlx::query(SELECT).bind(names).fetch_all(admin.pool()).await;
        Self::read(prefix, &rows.map_err(Error::server(action))?)
    }

    /// Those under the prefix that are no tenant's: being made, waiting, and templates.
    pub(crate) async fn find_nobodys(admin: &Admin, prefix: &str) -> Result<Vec<Self>, Error> {
        const SELECT: &str = select!("WHERE starts_with(datname::text, $1)");
        let action = "look for databases that are nobody's";
        let rows = sqlx::query(SELECT).bind(format!("{prefix}--")).fetch_all(admin.pool()).await;
        Self::read(prefix, &rows.map_err(Error::server(action))?)
    }

    fn read(prefix: &str, rows: &[PgRow]) -> Result<Vec<Self>, Error> {
        let place = |row: &PgRow| {
            let comment: Option<String> = row.try_get(3)?;
            Ok(Self {
                name: row.try_get(0)?,
                identity: Identity::of_owner(prefix, row.try_get(1)?),
                is_open: row.try_get(2)?,
                comment: comment.as_deref().and_then(Comment::read),
                is_half_dropped: row.try_get(4)?,
            })
        };
        let read = rows.iter().map(place).collect::<Result<_, _>>();
        read.map_err(Error::server("read what the server says of its databases"))
    }

    /// The stamp that the server keeps, and the roles that came with it.
    ///
    /// # Errors
    /// `ForeignDatabase`: it has none.
    pub(crate) fn stamped(&self, tenant: &TenantId) -> Result<(Stamp, &Identity)> {
        let stamp = self.comment.as_ref().and_then(Comment::stamp);
        stamp.zip(self.identity.as_ref()).ok_or_else(|| {
            let why = match self.identity {
                None => "its owner is none of the roles that were made for tenants",
                Some(_) => "it has no comment, or one in a form that is not known",
            };
            let error = Error::NoStamp { database: self.name.clone(), why };
            mt_core::Error::from(error).with_tenant(tenant)
        })
    }

    /// It is in the way of what is to have its name.
    pub(crate) fn taken(&self, why: &'static str) -> Error {
        Error::Taken { database: self.name.clone(), why }
    }

    /// The roles of a database that is this tenant's.
    ///
    /// # Errors
    /// `ForeignDatabase`.
    pub(crate) fn check(
        &self,
        deployment: DeploymentId,
        tenant: &TenantId,
        generation: Generation,
    ) -> Result<&Identity> {
        let (stamp, identity) = self.stamped(tenant)?;
        stamp.check(deployment, tenant, generation)?;
        Ok(identity)
    }
}
