#![doc = include_str!("README.md")]

mod extract;
mod layer;
mod problem;
mod resolve;
mod source;

pub use extract::Tenant;
pub use layer::{TenantLayer, TenantService};
pub use problem::Problem;
pub use resolve::TenantResolver;
pub use source::FactorySource;
