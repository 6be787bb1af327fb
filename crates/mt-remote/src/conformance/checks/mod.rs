pub(crate) mod errors;
pub(crate) mod rows;
pub(crate) mod statements;
pub(crate) mod streams;
pub(crate) mod transactions;
pub(crate) mod values;
