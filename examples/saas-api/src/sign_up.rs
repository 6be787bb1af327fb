//! From a request to a new tenant with an owner.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};
use multi_tenancy::{
    DataAdapters, DatabaseFactory, DatabaseIsolation, Error, ErrorKind, HookContext, TenantId,
    TenantState,
    entity::{CreateError, NewLog, NewUser, TenantAdapters as _},
};
use sea_orm::{DbErr, TransactionSession as _, TransactionTrait as _};
use serde::{Deserialize, Serialize};

use crate::{App, failure::Failure, routes::required};

/// The role of whoever signed the tenant up.
const OWNER: &str = "owner";

/// What a new tenant's database could not be welcomed with.
#[derive(Debug, thiserror::Error)]
enum WelcomeError {
    /// A sign-up before this one made the owner and then failed; nobody else takes the tenant over.
    #[error("the tenant's database has an owner already")]
    Owned,
    #[error("the tenant's database could not be opened")]
    Open(#[from] Error),
    #[error("the owner could not be added")]
    Create(#[from] CreateError),
    #[error("the tenant's database refused a statement")]
    Statement(#[from] DbErr),
}

/// How this service's tenants are made.
pub(crate) fn isolation(
    factory: Arc<dyn DatabaseFactory>,
    sign_ups: &SignUps,
) -> DatabaseIsolation {
    let sign_ups = sign_ups.clone();
    DatabaseIsolation::new(factory).seed(seed).on_provision(move |context| {
        let owner = sign_ups.owner_of(&context.tenant);
        async move { add_owner(context, owner).await }
    })
}

/// Fills a new database: runs again after a failed provision, so it looks first.
async fn seed(data: DataAdapters) -> Result<(), WelcomeError> {
    let transaction = data.begin().await?;
    if transaction.roles().find_by_name(OWNER).await?.is_some() {
        return Ok(());
    }
    transaction.roles().create(OWNER).await?;
    transaction.settings().set("plan", "trial").await?;
    let message = format!("welcome, {}", data.tenant());
    let log = NewLog { user_id: None, kind: "welcome".to_owned(), message };
    transaction.logs().create(log).await?;
    Ok(transaction.commit().await?)
}

/// Adds whoever signed up as the owner. A tenant of the command line has none yet.
async fn add_owner(context: HookContext, owner: Option<NewUser>) -> Result<(), WelcomeError> {
    let Some(owner) = owner else { return Ok(()) };
    let data = context.factory.get_adapters(&context.tenant).await?;
    let transaction = data.begin().await?;
    if transaction.users().find_by_email(&owner.email).await?.is_some() {
        return Ok(());
    }
    if transaction.users().count().await? > 0 {
        return Err(WelcomeError::Owned);
    }
    let user = transaction.users().create(owner).await?;
    if let Some(role) = transaction.roles().find_by_name(OWNER).await? {
        transaction.roles().grant(user.id, role.id).await?;
    }
    Ok(transaction.commit().await?)
}

/// Who is signing up right now, for the hook that adds the owner.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignUps(Arc<Mutex<HashMap<TenantId, NewUser>>>);

/// One sign-up while it runs.
struct SignUp {
    sign_ups: SignUps,
    tenant: TenantId,
}

impl SignUps {
    /// `None`: somebody else is signing up the same tenant, and only one of them becomes its owner.
    fn begin(&self, tenant: &TenantId, owner: NewUser) -> Option<SignUp> {
        let mut running = self.lock();
        if running.contains_key(tenant) {
            return None;
        }
        running.insert(tenant.clone(), owner);
        Some(SignUp { sign_ups: self.clone(), tenant: tenant.clone() })
    }

    fn owner_of(&self, tenant: &TenantId) -> Option<NewUser> {
        self.lock().get(tenant).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, NewUser>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SignUp {
    fn drop(&mut self) {
        self.sign_ups.lock().remove(&self.tenant);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Application {
    id: String,
    owner: Owner,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    email: String,
    name: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Tenant {
    id: TenantId,
    state: TenantState,
}

/// `POST /tenants`
pub(crate) async fn sign_up(
    State(app): State<App>,
    application: Result<Json<Application>, JsonRejection>,
) -> Result<(StatusCode, Json<Tenant>), Failure> {
    let Json(Application { id, owner }) = application?;
    let tenant = TenantId::new(id)?;
    let owner = NewUser {
        email: required("owner.email", owner.email)?,
        name: required("owner.name", owner.name)?,
    };
    let Some(turn) = app.sign_ups.begin(&tenant, owner) else { return Err(exists(&tenant)) };
    // A task of its own: a client that hangs up leaves no half-made tenant behind.
    let provisioning = tokio::spawn(async move {
        let provisioned = app.tenants.provision(&tenant).await;
        drop(turn);
        provisioned.map_err(|error| if is_owned(&error) { exists(&tenant) } else { error.into() })
    });
    let record = provisioning.await.map_err(|e| {
        Error::new(ErrorKind::Internal, "the sign-up was interrupted").with_source(e)
    })??;
    Ok((StatusCode::CREATED, Json(Tenant { id: record.tenant, state: record.state })))
}

fn exists(tenant: &TenantId) -> Failure {
    let text = "somebody else is signing up the tenant, or has tried to";
    Error::new(ErrorKind::TenantExists, text).with_tenant(tenant).into()
}

fn is_owned(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(WelcomeError::Owned))
}
