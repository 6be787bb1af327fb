use std::process::ExitCode;

use mt_core::{Error, TenantId};
use serde_json::{Value, json};

use crate::Out;

/// How a command ended, and so the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: it did what it was asked for.
    Done,
    /// 1: it failed, or failed for at least one tenant.
    Failed,
    /// 2: the arguments or the settings are wrong. Nothing was done.
    Usage,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// What a command found out, for people and for programs.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) json: Value,
    pub(crate) exit: Exit,
}

impl Answer {
    pub(crate) fn done(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, exit: Exit::Done }
    }
}

/// Why a command has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments contradict each other. Nothing was done.
    Usage { message: String, tenant: Option<TenantId> },
    /// The settings are wrong. Nothing was done.
    Settings { error: Error, advice: Option<&'static str> },
    /// The command failed.
    Operation(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Operation(error)
    }
}

impl Failure {
    pub(crate) const fn settings(error: Error) -> Self {
        Self::Settings { error, advice: None }
    }

    const fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } | Self::Settings { .. } => Exit::Usage,
            Self::Operation(_) => Exit::Failed,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Usage { message, .. } => message.clone(),
            Self::Settings { error, advice: Some(advice) } => {
                format!("{}; {advice}", error.to_chain())
            }
            Self::Settings { error, advice: None } | Self::Operation(error) => error.to_chain(),
        }
    }

    fn to_json(&self) -> Value {
        let (kind, tenant, provider) = match self {
            Self::Usage { tenant, .. } => ("usage".to_owned(), tenant.as_ref(), None),
            Self::Settings { error, .. } | Self::Operation(error) => {
                (snake_case(&format!("{:?}", error.kind())), error.tenant(), error.provider())
            }
        };
        let message = self.message();
        json!({"error": {
            "kind": kind, "message": message, "tenant": tenant, "provider": provider,
        }})
    }
}

/// Writes what a command came to: with `json`, one document to the answers, whether it succeeded or
/// not; else text, errors among the remarks.
pub(crate) fn report(outcome: &Result<Answer, Failure>, json: bool, out: &Out) -> Exit {
    let exit = match outcome {
        Ok(answer) if json => {
            out.line(format_args!("{:#}", answer.json));
            answer.exit
        }
        Ok(answer) => {
            if !answer.text.is_empty() {
                out.line(answer.text.trim_end());
            }
            answer.exit
        }
        Err(failure) if json => {
            out.line(format_args!("{:#}", failure.to_json()));
            failure.exit()
        }
        Err(failure) => {
            out.remark(format_args!("error: {}", failure.message()));
            failure.exit()
        }
    };
    match out.finish() {
        Ok(()) => exit,
        Err(error) => {
            out.remark(format_args!("error: the answer could not be written: {error}"));
            Exit::Failed
        }
    }
}

/// `TenantNotFound` as `tenant_not_found`.
fn snake_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// A table for a terminal or for `awk`: columns under a header, no lines.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(header.to_vec());
    table.add_rows(rows);
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(&format!("{}\n", line.trim()));
    }
    text
}

#[cfg(test)]
mod tests {
    use mt_core::ErrorKind;

    use super::*;

    #[test]
    fn an_error_names_its_kind_tenant_and_provider() {
        let tenant = TenantId::new("acme").unwrap();
        let error = Error::new(ErrorKind::TenantNotFound, "gone").with_tenant(&tenant);
        let json = Failure::from(error.with_provider("sqlite")).to_json();
        assert_eq!(json["error"]["kind"], "tenant_not_found");
        assert_eq!(json["error"]["tenant"], "acme");
        assert_eq!(json["error"]["provider"], "sqlite");
    }

    #[test]
    fn a_table_has_a_line_per_row() {
        let text = table(&["TENANT", "STATE"], [vec!["a".to_owned(), "active".to_owned()]]);
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words, [["TENANT", "STATE"], ["a", "active"]]);
    }
}
