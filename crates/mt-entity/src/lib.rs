#![doc = include_str!("README.md")]

mod adapters;
mod entities;
mod page;

pub use adapters::{
    CreateError, Credentials, Logs, NewLog, NewRole, NewSetting, NewUser, Roles, Sessions,
    Settings, TenantAdapters, Users,
};
pub use entities::{credential, log, role, session, setting, user, user_role};
pub use page::{InvalidLimit, Page};
