//! What SeaORM binds, in the forms in which sqlx binds it to SQLite.
//!
//! A database that moves between a remote engine and a file must read the same on both, so nothing
//! here is a choice of ours: the forms are sqlx-sqlite's, and a test compares each of them.

use chrono::{DateTime, SecondsFormat, TimeZone};
use mt_core::{Error, ErrorKind, Result};
use sea_orm::{Statement, sea_query::OptionEnum};
use time::{
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

use crate::{Command, Value};

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const TIME: &[BorrowedFormatItem<'_>] = format_description!("[hour]:[minute]:[second].[subsecond]");
const DATE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond]");

/// A statement as it is sent.
///
/// # Errors
/// `Statement`: a parameter that SQLite has no form for, by its number.
pub(crate) fn command(statement: Statement) -> Result<Command> {
    let parameters = statement.values.map(|values| values.0).unwrap_or_default();
    let parameters = parameters
        .into_iter()
        .enumerate()
        .map(|(at, parameter)| {
            value(parameter).map_err(|error| {
                Error::new(ErrorKind::Statement, format!("parameter {} cannot be bound", at + 1))
                    .with_source(error)
            })
        })
        .collect::<Result<_>>()?;
    Ok(Command { sql: statement.sql, parameters })
}

/// A value of SeaORM's as SQLite has it.
///
/// # Errors
/// `Statement`: SQLite has no form for it.
pub(crate) fn value(value: sea_orm::Value) -> Result<Value> {
    use sea_orm::Value as Orm;
    Ok(match value {
        Orm::Bool(value) => integer(value),
        Orm::TinyInt(value) => integer(value),
        Orm::SmallInt(value) => integer(value),
        Orm::Int(value) => integer(value),
        Orm::BigInt(value) => integer(value),
        Orm::TinyUnsigned(value) => integer(value),
        Orm::SmallUnsigned(value) => integer(value),
        Orm::Unsigned(value) => integer(value),
        Orm::BigUnsigned(None) => Value::Null,
        Orm::BigUnsigned(Some(value)) if i64::try_from(value).is_ok() => {
            Value::Integer(value.cast_signed())
        }
        Orm::Float(value) => real(value),
        Orm::Double(value) => real(value),
        Orm::String(value) => value.map_or(Value::Null, Value::Text),
        Orm::Enum(OptionEnum::Some(value)) => Value::Text(value.value.into_owned()),
        Orm::Enum(OptionEnum::None(_)) => Value::Null,
        Orm::Char(value) => text(value, |value| value.to_string()),
        Orm::Bytes(value) => value.map_or(Value::Null, Value::Blob),
        Orm::Json(value) => try_text(value, |value| serde_json::to_string(&value))?,
        Orm::ChronoDate(value) => text(value, |value| value.format("%F").to_string()),
        Orm::ChronoTime(value) => text(value, |value| value.format("%T%.f").to_string()),
        Orm::ChronoDateTime(value) => text(value, |value| value.format("%F %T%.f").to_string()),
        Orm::ChronoDateTimeUtc(value) => text(value, |value| rfc3339(&value)),
        Orm::ChronoDateTimeLocal(value) => text(value, |value| rfc3339(&value)),
        Orm::ChronoDateTimeWithTimeZone(value) => text(value, |value| rfc3339(&value)),
        Orm::TimeDate(value) => try_text(value, |value| value.format(DATE))?,
        Orm::TimeTime(value) => try_text(value, |value| value.format(TIME))?,
        Orm::TimeDateTime(value) => try_text(value, |value| value.format(DATE_TIME))?,
        Orm::TimeDateTimeWithTimeZone(value) => try_text(value, |value| value.format(&Rfc3339))?,
        Orm::Uuid(value) => value.map_or(Value::Null, |value| Value::Blob(value.into())),
        Orm::Decimal(value) => text(value, |value| value.to_string()),
        // Also kinds that exist only where an application turns on more of SeaORM's features.
        refused => return Err(no_form(&refused)),
    })
}

fn no_form(value: &sea_orm::Value) -> Error {
    let why = match value {
        sea_orm::Value::BigUnsigned(_) => "the number is beyond the largest integer of SQLite",
        _ => "values of this kind have no form in SQLite",
    };
    Error::new(ErrorKind::Statement, why)
}

fn integer(value: Option<impl Into<i64>>) -> Value {
    value.map_or(Value::Null, |value| Value::Integer(value.into()))
}

/// SQLite has no NaN: it stores `NULL`.
fn real(value: Option<impl Into<f64>>) -> Value {
    value.map(Into::into).filter(|value| !value.is_nan()).map_or(Value::Null, Value::Real)
}

fn text<T>(value: Option<T>, to_text: impl FnOnce(T) -> String) -> Value {
    value.map_or(Value::Null, |value| Value::Text(to_text(value)))
}

fn try_text<T, E>(value: Option<T>, to_text: impl FnOnce(T) -> Result<String, E>) -> Result<Value>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let text = value.map(to_text).transpose().map_err(|error| {
        Error::new(ErrorKind::Statement, "the value cannot be written as text").with_source(error)
    })?;
    Ok(text.map_or(Value::Null, Value::Text))
}

fn rfc3339<Z: TimeZone>(value: &DateTime<Z>) -> String
where
    Z::Offset: std::fmt::Display,
{
    value.to_rfc3339_opts(SecondsFormat::AutoSi, false)
}
