use serde::Serialize;

/// What a provider can do, as plain data.
///
/// Each flag is true, and `mt-conformance` checks it both ways: where it is set the thing works,
/// where it is not the call answers [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)
/// before any side effect. What every provider does is no flag: provisioning, the atomic
/// [`batch`](crate::DataAdapters::batch), listing, describing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent facts, read by name")]
#[non_exhaustive]
pub struct Capabilities {
    /// Interactive transactions: `begin`, statements, `commit`.
    pub transactions: bool,
    /// Transactions inside transactions, by savepoints.
    pub savepoints: bool,
    /// Rows arrive one by one from [`StreamTrait`](sea_orm::StreamTrait), not all at once.
    pub streaming: bool,
    /// Who keeps [`DataAdapters::read`](crate::DataAdapters::read) from writing.
    pub read_only: ReadOnly,
    /// Schema changes take part in transactions.
    pub transactional_ddl: bool,
    /// `maintain` with [`MaintenanceMode::Exclusive`](crate::MaintenanceMode::Exclusive): other
    /// processes can be kept out.
    pub exclusive_maintenance: bool,
    /// `suspend` and `activate`: the engine itself refuses a suspended tenant's connections.
    pub suspend: bool,
    /// `backup`.
    pub backup: bool,
    /// `restore`.
    pub restore: bool,
    /// The most bound parameters in one statement; `None`: no limit below 32,766.
    pub max_bound_parameters: Option<u32>,
    /// The longest statement, in bytes; `None`: no limit below 1,000,000.
    pub max_statement_bytes: Option<u64>,
}

/// Who keeps a read handle from writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ReadOnly {
    /// The engine: a read-only session, file or token.
    Engine,
    /// The handle, by looking at each statement's tokens.
    Handle,
}

impl Capabilities {
    /// A provider that can do nothing beyond what every provider does. Set what it can.
    pub const MINIMAL: Self = Self {
        transactions: false,
        savepoints: false,
        streaming: false,
        read_only: ReadOnly::Handle,
        transactional_ddl: false,
        exclusive_maintenance: false,
        suspend: false,
        backup: false,
        restore: false,
        max_bound_parameters: None,
        max_statement_bytes: None,
    };
}
