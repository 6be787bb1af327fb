use std::collections::HashMap;

use async_trait::async_trait;
use mt_core::{Error, ErrorKind, Placement, PlacementStore, Result, TenantId, TenantState};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, QueryFilter as _, QuerySelect as _,
    sea_query::Expr,
};

use super::{
    Catalog,
    changes::text,
    entity::tenant,
    record::{attributes_to_text, placement},
};

/// How many ids one query asks for: fewer than any engine's limit of parameters.
const MAX_PARAMETERS: usize = 500;

/// The catalog as the place where factories keep their placements.
#[derive(Clone, Debug)]
pub(crate) struct CatalogPlacements(pub(crate) Catalog);

#[async_trait]
impl PlacementStore for CatalogPlacements {
    async fn get(&self, tenant: &TenantId) -> Result<Option<Placement>> {
        let mut placements = self.get_many(std::slice::from_ref(tenant)).await?;
        Ok(placements.pop().flatten())
    }

    async fn get_many(&self, tenants: &[TenantId]) -> Result<Vec<Option<Placement>>> {
        let mut known = HashMap::with_capacity(tenants.len());
        for some in tenants.chunks(MAX_PARAMETERS) {
            // Asked at every look at a tenant's database, so it reads no more than it must.
            let rows: Vec<(String, i64, Option<String>, String, Option<String>)> =
                tenant::Entity::find()
                    .filter(tenant::Column::Id.is_in(some.iter().map(TenantId::as_str)))
                    .filter(tenant::Column::State.ne(TenantState::Deleted.as_str()))
                    .select_only()
                    .column(tenant::Column::Id)
                    .column(tenant::Column::Generation)
                    .column(tenant::Column::DatabaseName)
                    .column(tenant::Column::Attributes)
                    .column(tenant::Column::SecretRef)
                    .into_tuple()
                    .all(self.0.connection())
                    .await
                    .map_err(|e| self.0.unanswered(e))?;
            for (id, generation, database, attributes, secret) in rows {
                let placement = placement(&id, generation, database, &attributes, secret)?;
                known.insert(id, placement);
            }
        }
        Ok(tenants.iter().map(|tenant| known.remove(tenant.as_str())).collect())
    }

    async fn compare_and_set(
        &self,
        tenant: &TenantId,
        expected: &Placement,
        new: &Placement,
    ) -> Result<()> {
        let database = |placement: &Placement| {
            placement.database.as_ref().map(|name| name.as_str().to_owned())
        };
        let secret = |placement: &Placement| placement.secret.as_ref().map(|s| s.0.clone());
        let same = |column: tenant::Column, value: Option<String>| match value {
            Some(value) => column.eq(value),
            None => Expr::col(column).is_null(),
        };
        let result = tenant::Entity::update_many()
            .col_expr(tenant::Column::Generation, Expr::value(i64::from(new.generation.get())))
            .col_expr(tenant::Column::DatabaseName, Expr::value(database(new)))
            .col_expr(tenant::Column::Attributes, text(&attributes_to_text(new)))
            .col_expr(tenant::Column::SecretRef, Expr::value(secret(new)))
            .filter(tenant::Column::Id.eq(tenant.as_str()))
            .filter(tenant::Column::State.ne(TenantState::Deleted.as_str()))
            .filter(tenant::Column::Generation.eq(i64::from(expected.generation.get())))
            .filter(tenant::Column::Attributes.eq(attributes_to_text(expected)))
            .filter(same(tenant::Column::DatabaseName, database(expected)))
            .filter(same(tenant::Column::SecretRef, secret(expected)))
            .exec(self.0.connection())
            .await
            .map_err(|e| self.0.unanswered(e).with_tenant(tenant))?;
        match result.rows_affected {
            1 => Ok(()),
            _ => {
                self.0.get(tenant).await?;
                Err(Error::new(ErrorKind::Conflict, "somebody else moved the tenant first")
                    .with_tenant(tenant))
            }
        }
    }

    fn can_change(&self) -> bool {
        true
    }
}
