//! What changes a tenant's row. Each is one statement that names what it found, so that of two
//! processes one is told that the other was faster, on either engine.

use chrono::Utc;
use mt_core::{Error, ErrorKind, Generation, Result, TenantId, TenantState};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _, SqlErr, sea_query::Expr,
};

use super::{Catalog, TenantRecord, entity::tenant};

/// How often a reservation is tried while others make and remove the same tenant.
const ATTEMPTS: u32 = 8;

impl Catalog {
    /// Reserves a row for a new tenant, or for the next life of a deleted one. `restoring` says that
    /// it is to be made of a backup.
    ///
    /// # Errors
    /// `TenantExists`: the id, or one that differs from it only by case, is taken. `Conflict`: others
    /// make and remove it again and again.
    pub(crate) async fn reserve(
        &self,
        tenant: &TenantId,
        provider: &str,
        restoring: bool,
    ) -> Result<TenantRecord> {
        for _ in 0..ATTEMPTS {
            if self.insert(tenant, provider, restoring).await? {
                return self.get(tenant).await;
            }
            if let Some(known) = self.find(tenant).await? {
                if known.state != TenantState::Deleted {
                    return Err(exists(
                        tenant,
                        format!("the tenant exists and is {}", known.state),
                    ));
                }
                if self.reserve_again(&known, provider, restoring).await? {
                    return self.get(tenant).await;
                }
            } else if let Some(other) = self.find_folded(tenant).await? {
                let message = format!("there is a tenant `{other}` whose id differs only by case");
                return Err(exists(tenant, message));
            }
            // What was in the way a moment ago is gone: somebody else was faster.
        }
        Err(Error::new(ErrorKind::Conflict, "others make and remove the tenant at the same time")
            .with_tenant(tenant))
    }

    /// Adds the row of a new tenant; `false`: its id, or one that differs only by case, is taken.
    async fn insert(&self, tenant: &TenantId, provider: &str, restoring: bool) -> Result<bool> {
        let now = Utc::now();
        let row = tenant::ActiveModel {
            id: Set(tenant.as_str().to_owned()),
            folded: Set(tenant.to_folded()),
            provider: Set(provider.to_owned()),
            state: Set(TenantState::Provisioning.as_str().to_owned()),
            generation: Set(Generation::FIRST.get().into()),
            database_name: Set(None),
            attributes: Set("{}".to_owned()),
            secret_ref: Set(None),
            schema_version: Set(None),
            schema_fingerprint: Set(None),
            last_error: Set(None),
            restoring: Set(restoring),
            created_at: Set(now),
            updated_at: Set(now),
        };
        match tenant::Entity::insert(row).exec_without_returning(self.connection()).await {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
                Ok(false)
            }
            Err(e) => Err(self.unanswered(e).with_tenant(tenant)),
        }
    }

    /// The id with the same letters in another case.
    async fn find_folded(&self, tenant: &TenantId) -> Result<Option<String>> {
        let other = tenant::Entity::find()
            .filter(tenant::Column::Folded.eq(tenant.to_folded()))
            .one(self.connection())
            .await
            .map_err(|e| self.unanswered(e).with_tenant(tenant))?;
        Ok(other.map(|row| row.id))
    }

    /// A deleted tenant's next database gets the next generation, so that nothing left of the last
    /// one can answer for it. `false`: it is no longer deleted, or was made and deleted meanwhile.
    async fn reserve_again(
        &self,
        known: &TenantRecord,
        provider: &str,
        restoring: bool,
    ) -> Result<bool> {
        let generation = known.placement.generation;
        self.change(&known.tenant, &[TenantState::Deleted], |update| {
            update
                .filter(tenant::Column::Generation.eq(i64::from(generation.get())))
                .col_expr(tenant::Column::State, text(TenantState::Provisioning.as_str()))
                .col_expr(tenant::Column::Provider, text(provider))
                .col_expr(
                    tenant::Column::Generation,
                    Expr::value(i64::from(generation.next().get())),
                )
                .col_expr(tenant::Column::DatabaseName, Expr::value(None::<String>))
                .col_expr(tenant::Column::Attributes, text("{}"))
                .col_expr(tenant::Column::SecretRef, Expr::value(None::<String>))
                .col_expr(tenant::Column::SchemaVersion, Expr::value(None::<String>))
                .col_expr(tenant::Column::SchemaFingerprint, Expr::value(None::<String>))
                .col_expr(tenant::Column::LastError, Expr::value(None::<String>))
                .col_expr(tenant::Column::Restoring, Expr::value(restoring))
        })
        .await
    }

    /// Moves a tenant from one of `from` to `to`, noting `error`; `false`: it is in none of `from`.
    pub(crate) async fn move_to(
        &self,
        tenant: &TenantId,
        from: &[TenantState],
        to: TenantState,
        error: Option<&str>,
    ) -> Result<bool> {
        self.change(tenant, from, |update| {
            update
                .col_expr(tenant::Column::State, text(to.as_str()))
                .col_expr(tenant::Column::LastError, noted(error))
        })
        .await
    }

    /// Notes how far the schema of the tenant's database of `generation` is; nothing, if the tenant
    /// has another by now.
    pub(crate) async fn note_schema(
        &self,
        tenant: &TenantId,
        generation: Generation,
        version: Option<&str>,
        fingerprint: Option<&str>,
    ) -> Result<()> {
        self.change(tenant, &TenantState::ALL, |update| {
            update
                .filter(tenant::Column::Generation.eq(i64::from(generation.get())))
                .col_expr(tenant::Column::SchemaVersion, Expr::value(version.map(str::to_owned)))
                .col_expr(
                    tenant::Column::SchemaFingerprint,
                    Expr::value(fingerprint.map(str::to_owned)),
                )
        })
        .await
        .map(drop)
    }

    /// Marks a served tenant as being restored, and takes it out of service.
    ///
    /// # Errors
    /// `Conflict`: it is being restored already. `TenantNotActive`: it is in none of `from`.
    pub(crate) async fn begin_restore(
        &self,
        tenant: &TenantId,
        from: &[TenantState],
    ) -> Result<()> {
        let begun = self
            .change(tenant, from, |update| {
                update
                    .filter(tenant::Column::Restoring.eq(false))
                    .col_expr(tenant::Column::State, text(TenantState::Suspended.as_str()))
                    .col_expr(tenant::Column::Restoring, Expr::value(true))
            })
            .await?;
        if begun {
            return Ok(());
        }
        let record = self.get(tenant).await?;
        let (kind, message) = if record.restoring {
            (ErrorKind::Conflict, "the tenant is being restored; if whoever did it is gone, activate it and restore it again".to_owned())
        } else {
            (ErrorKind::TenantNotActive, format!("the tenant is {}", record.state))
        };
        Err(Error::new(kind, message).with_tenant(tenant))
    }

    /// Takes the mark away and moves the tenant to `to`, unless somebody else took the mark away.
    pub(crate) async fn end_restore(
        &self,
        tenant: &TenantId,
        to: TenantState,
        error: Option<&str>,
    ) -> Result<()> {
        self.change(tenant, &[TenantState::Suspended], |update| {
            update
                .filter(tenant::Column::Restoring.eq(true))
                .col_expr(tenant::Column::State, text(to.as_str()))
                .col_expr(tenant::Column::Restoring, Expr::value(false))
                .col_expr(tenant::Column::LastError, noted(error))
        })
        .await
        .map(drop)
    }

    /// Takes a reservation back: nothing was made, and the catalog owns nothing of that name.
    pub(crate) async fn release(&self, record: &TenantRecord) -> Result<()> {
        if record.placement.generation != Generation::FIRST {
            let from = [TenantState::Provisioning];
            return self.move_to(&record.tenant, &from, TenantState::Deleted, None).await.map(drop);
        }
        tenant::Entity::delete_by_id(record.tenant.as_str())
            .filter(tenant::Column::State.eq(TenantState::Provisioning.as_str()))
            .exec(self.connection())
            .await
            .map(drop)
            .map_err(|e| self.unanswered(e).with_tenant(&record.tenant))
    }

    /// Takes the mark away: somebody decides otherwise, or the data has arrived.
    pub(crate) async fn clear_restore(&self, tenant: &TenantId) -> Result<()> {
        self.change(tenant, &TenantState::ALL, |update| {
            update.col_expr(tenant::Column::Restoring, Expr::value(false))
        })
        .await
        .map(drop)
    }

    /// Notes what the last step said, without changing the state.
    pub(crate) async fn note_error(&self, tenant: &TenantId, error: Option<&str>) -> Result<()> {
        self.change(tenant, &TenantState::ALL, |update| {
            update.col_expr(tenant::Column::LastError, noted(error))
        })
        .await
        .map(drop)
    }

    async fn change(
        &self,
        tenant: &TenantId,
        from: &[TenantState],
        set: impl FnOnce(Update) -> Update,
    ) -> Result<bool> {
        let update = tenant::Entity::update_many()
            .col_expr(tenant::Column::UpdatedAt, Expr::value(Utc::now()))
            .filter(tenant::Column::Id.eq(tenant.as_str()))
            .filter(tenant::Column::State.is_in(from.iter().map(|state| state.as_str())));
        let result = set(update)
            .exec(self.connection())
            .await
            .map_err(|e| self.unanswered(e).with_tenant(tenant))?;
        Ok(result.rows_affected == 1)
    }
}

type Update = sea_orm::UpdateMany<tenant::Entity>;

pub(super) fn text(value: &str) -> Expr {
    Expr::value(value.to_owned())
}

/// An error as it is kept: PostgreSQL keeps no text with a NUL in it, and what an engine says of a
/// value may repeat one.
fn noted(error: Option<&str>) -> Expr {
    Expr::value(error.map(|error| error.replace('\0', "\u{fffd}")))
}

fn exists(tenant: &TenantId, message: String) -> Error {
    Error::new(ErrorKind::TenantExists, message).with_tenant(tenant)
}
