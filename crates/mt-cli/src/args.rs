use std::{ffi::OsString, num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand};
use mt_core::TenantId;

use crate::{
    Exit, Out,
    answer::{Failure, report},
};

/// What stands below every `--help`: where settings come from, and the exit codes.
pub const NOTES: &str = "\
Settings come from flags, then the environment, then the settings file, then the defaults:
  data_dir     --data-dir     MT_DATA_DIR     ./data
  provider     --provider     MT_PROVIDER     sqlite
  main_tenant  --main-tenant  MT_MAIN_TENANT  none
  catalog      --catalog      MT_CATALOG      <data_dir>/control.db, or postgres://…
  [sqlite]                                    the provider's own settings
    directory                 MT_SQLITE__DIRECTORY  <data_dir>/tenants
  [d1]
    account_id                MT_D1__ACCOUNT_ID  required, and so is:
    api_token                 MT_D1__API_TOKEN
  [postgres]
    admin_url                 MT_POSTGRES__ADMIN_URL  required, and so is:
    role_secret               MT_POSTGRES__ROLE_SECRET
  [turso]
    organization              MT_TURSO__ORGANIZATION  required, and so are:
    group                     MT_TURSO__GROUP
    api_token                 MT_TURSO__API_TOKEN
The settings file is mt.toml in the working directory, or the one given with --config.
RUST_LOG chooses what is logged, to standard error.

Exit codes:
  0  done
  1  the operation failed, or failed for at least one tenant
  2  the arguments or the settings are wrong; nothing was done

With --json, standard output holds one JSON document; an error is
{\"error\": {\"kind\", \"message\", \"tenant\", \"provider\"}}.";

/// A command line with nothing but our commands.
#[derive(Clone, Debug, Parser)]
#[command(name = "mt", version, about = "Administers the databases of tenants", after_help = NOTES)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub options: Options,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command. Flatten it into a command line of your own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Settings")]
pub struct Options {
    /// The settings file [default: mt.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder of the catalog and the backups, and of the tenants' files with sqlite [default:
    /// ./data]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Where the catalog is: a file, or a URL postgres://… without its password, which belongs
    /// into the environment [default: control.db in the data folder]
    #[arg(long, global = true, value_name = "FILE|URL")]
    pub catalog: Option<String>,
    /// Which engine keeps the databases of new tenants [default: sqlite]
    #[arg(long, global = true, value_name = "NAME")]
    pub provider: Option<String>,
    /// The application's own tenant: made if it is not there, migrated first, never removed
    #[arg(long, global = true, value_name = "TENANT")]
    pub main_tenant: Option<TenantId>,
    /// Answer with one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more: -v steps, -vv details
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The commands. Flatten them into the subcommands of your own.
#[derive(Clone, Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Make a tenant: its database, migrated and seeded
    Provision {
        /// The new tenant: 1 to 64 of A-Z a-z 0-9 _ -, the first a letter or a digit
        tenant: TenantId,
        /// Succeed if the tenant is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Remove a tenant and its database
    Deprovision {
        /// The tenant
        tenant: TenantId,
        /// The tenant again: there is no way back
        #[arg(long, value_name = "TENANT")]
        confirm: TenantId,
    },
    /// Take a tenant out of service and keep its database
    Suspend {
        /// The tenant
        tenant: TenantId,
    },
    /// Put a suspended tenant back into service
    Activate {
        /// The tenant
        tenant: TenantId,
    },
    /// List the tenants, as the catalog knows them
    List,
    /// Look into the tenants' databases: schema, what is pending, size
    ///
    /// Exit code 1 if the database of an active or suspended tenant cannot be looked at.
    Status {
        /// Which tenants [default: all]
        tenants: Vec<TenantId>,
    },
    /// Write a copy of a tenant's database to a file, while it is in use
    Backup {
        /// The tenant
        tenant: TenantId,
        /// The new file [default: TENANT-TIME.tar in the folder backups of the data folder]
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Make a tenant's database of a backup
    Restore {
        /// The tenant of whom the backup was taken
        tenant: TenantId,
        /// The backup
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Make a new tenant of it, and leave the one it was taken of alone
        #[arg(long = "as", value_name = "NEW")]
        restore_as: Option<TenantId>,
    },
    /// Apply what is pending to every tenant, several at once; go on after a failure
    MigrateAll(MigrateAllArgs),
    /// Tell which providers are linked, what the settings are, and what can be reached
    Doctor,
}

/// What `migrate-all` can be told.
#[derive(Clone, Debug, Args)]
#[non_exhaustive]
pub struct MigrateAllArgs {
    /// Only these
    #[arg(long, value_name = "TENANT,…", value_delimiter = ',')]
    pub tenants: Option<Vec<TenantId>>,
    /// All but these
    #[arg(long, value_name = "TENANT,…", value_delimiter = ',')]
    pub skip: Vec<TenantId>,
    /// How many at once
    #[arg(long, value_name = "N", default_value = "8")]
    pub jobs: NonZeroUsize,
    /// Only say what is pending
    #[arg(long)]
    pub dry_run: bool,
    /// Look into every database, also where the catalog says that nothing is pending
    #[arg(long)]
    pub verify: bool,
}

impl Command {
    /// What the arguments cannot say one by one.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Deprovision { tenant, confirm } if tenant != confirm => Err(Failure::Usage {
                message: format!(
                    "`--confirm` names `{confirm}`, expected `{tenant}`; nothing was removed"
                ),
                tenant: Some(tenant.clone()),
            }),
            _ => Ok(()),
        }
    }
}

/// Parses a command line, the program's name first. What there is to say about it (help, or what is
/// wrong) is written to `out`, as JSON if `--json` is among the arguments.
///
/// # Errors
/// How the process should end, where nothing is left to be done.
pub fn parse<C: Parser>(
    args: impl IntoIterator<Item = impl Into<OsString>>,
    out: &Out,
) -> Result<C, Exit> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    C::try_parse_from(args).map_err(|error| {
        let text = error.render().to_string();
        if !error.use_stderr() {
            out.line(text.trim_end());
            return out.finish().map_or(Exit::Failed, |()| Exit::Done);
        }
        if json {
            // The usage below the first paragraph is for people.
            let message = text.split("\n\n").next().unwrap_or(&text).trim();
            let message = message.strip_prefix("error: ").unwrap_or(message).to_owned();
            return report(&Err(Failure::Usage { message, tenant: None }), json, out);
        }
        out.remark(text.trim_end());
        Exit::Usage
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_of_tenants_are_separated_by_commas() {
        let args = ["mt", "migrate-all", "--tenants", "a,b", "--skip", "c"];
        let Command::MigrateAll(args) = Cli::try_parse_from(args).unwrap().command else {
            panic!("another command");
        };
        assert_eq!(args.tenants.unwrap().len(), 2);
        assert_eq!(args.skip.len(), 1);
    }
}
