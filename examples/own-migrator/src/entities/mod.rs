pub mod project;
pub mod task;
