//! The catalog's tables.

#![expect(unreachable_pub, reason = "SeaORM's derives need public items")]

/// One row: the installation.
pub(crate) mod deployment {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "deployment")]
    pub struct Model {
        /// Always [`ONLY`], so that there cannot be two.
        #[sea_orm(primary_key, auto_increment = false)]
        pub number: i32,
        pub id: String,
        pub created_at: ChronoDateTimeUtc,
    }

    pub(crate) const ONLY: i32 = 1;

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One row per tenant that is or was.
pub(crate) mod tenant {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "tenant")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        #[sea_orm(unique)]
        pub folded: String,
        pub provider: String,
        pub state: String,
        pub generation: i64,
        pub database_name: Option<String>,
        pub attributes: String,
        pub secret_ref: Option<String>,
        pub schema_version: Option<String>,
        pub schema_fingerprint: Option<String>,
        pub last_error: Option<String>,
        pub restoring: bool,
        pub created_at: ChronoDateTimeUtc,
        pub updated_at: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
