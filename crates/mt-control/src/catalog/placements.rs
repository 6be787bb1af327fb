use async_trait::async_trait;
use mt_core::{Error, ErrorKind, Placement, PlacementStore, Result, TenantId, TenantState};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::{Catalog, attributes_to_text, entity::tenant, text, unanswered};

/// The catalog as the place where factories keep their placements.
#[derive(Clone, Debug)]
pub(crate) struct CatalogPlacements(pub(crate) Catalog);

#[async_trait]
impl PlacementStore for CatalogPlacements {
    async fn get(&self, tenant: &TenantId) -> Result<Option<Placement>> {
        let record = self.0.find(tenant).await?;
        Ok(record
            .filter(|record| record.state != TenantState::Deleted)
            .map(|record| record.placement))
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
            .map_err(|e| unanswered(e).with_tenant(tenant))?;
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
