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
    DataAdapters, DatabaseIsolation, Error, ErrorKind, HookContext, Step, TenantId, TenantState,
    entity::{
        NewLog, NewRole, NewSetting, NewUser, TenantAdapters as _, log, role, setting, user,
        user_role,
    },
};
use sea_orm::{
    ActiveValue::Set, ConnectionTrait as _, DbErr, EntityTrait as _, QuerySelect as _,
    QueryTrait as _, sea_query::Expr,
};
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
    #[error("the tenant's database refused a statement")]
    Statement(#[from] DbErr),
}

/// How this service's tenants are made.
pub(crate) fn isolation(isolation: DatabaseIsolation, sign_ups: &SignUps) -> DatabaseIsolation {
    let sign_ups = sign_ups.clone();
    isolation.seed(seed).on_provision(move |context| {
        let owner = sign_ups.owner_of(&context.tenant);
        async move { add_owner(context, owner).await }
    })
}

/// Fills a new database, all or nothing: runs again after a failed provision, so it looks first.
///
/// A batch and no transaction: not every engine has those.
async fn seed(data: DataAdapters) -> Result<(), WelcomeError> {
    if data.roles().find_by_name(OWNER).await?.is_some() {
        return Ok(());
    }
    let role: role::ActiveModel = NewRole { name: OWNER.to_owned() }.into();
    let plan: setting::ActiveModel =
        NewSetting { key: "plan".to_owned(), value: "trial".to_owned() }.into();
    let message = format!("welcome, {}", data.tenant());
    let welcome: log::ActiveModel =
        NewLog { user_id: None, kind: "welcome".to_owned(), message }.into();
    let backend = data.get_database_backend();
    let seed = [
        role::Entity::insert(role).build(backend),
        setting::Entity::insert(plan).build(backend),
        log::Entity::insert(welcome).build(backend),
    ];
    Ok(data.batch(seed).await.map(drop)?)
}

/// Adds whoever signed up as the owner, if nobody was. A tenant of the command line has none yet.
async fn add_owner(context: HookContext, owner: Option<NewUser>) -> Result<(), WelcomeError> {
    let Some(owner) = owner else { return Ok(()) };
    let data = context.factory.get_adapters(&context.tenant).await?;
    if data.users().find_by_email(&owner.email).await?.is_some() {
        return Ok(());
    }
    let role = data.roles().find_by_name(OWNER).await?;
    let backend = data.get_database_backend();
    let nobody = user::Entity::find().select_only().expr(Expr::cust("COUNT(*) = 0"));
    let owner: user::ActiveModel = owner.into();
    let user_id = owner.id.clone();
    let mut steps: Vec<Step> = vec![
        Step::condition(nobody.build(backend)),
        user::Entity::insert(owner).build(backend).into(),
    ];
    if let Some(role) = role {
        let grant = user_role::ActiveModel { user_id, role_id: Set(role.id) };
        steps.push(user_role::Entity::insert(grant).build(backend).into());
    }
    match data.batch(steps).await {
        Ok(_) => Ok(()),
        Err(e) if is_conflict(&e) => Err(WelcomeError::Owned),
        Err(e) => Err(e.into()),
    }
}

/// Whether a condition of a batch did not hold.
fn is_conflict(error: &DbErr) -> bool {
    Error::in_db_err(error).is_some_and(|error| error.kind() == ErrorKind::Conflict)
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
