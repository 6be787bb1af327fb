pub mod credential;
pub mod log;
pub mod role;
pub mod session;
pub mod setting;
pub mod user;
pub mod user_role;
