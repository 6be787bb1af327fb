//! How a statement is sent, and what its answers come to.

use std::sync::Arc;

use mt_core::{Error, ErrorKind, Result};
use mt_remote::{Answer, Column, Command};
use sea_orm::DbBackend;

use super::{
    Effect, RawAnswer, RawStatement,
    exact::{self, Form},
    inline, items,
    parcel::{self, MAX_STATEMENT_BYTES, Parcel},
    refusals,
    shapes::{Shape, Shapes},
    text::{Kind, Text},
};

/// Follows each statement that writes: what D1 tells of changes counts those of triggers too, and it
/// rounds the rowid.
const COUNTERS: &str = "SELECT CAST(changes() AS TEXT), CAST(last_insert_rowid() AS TEXT)";

/// A statement, ready to be sent.
pub(super) struct Plan {
    recipe: Arc<Recipe>,
    params: Vec<String>,
}

/// What is known of a statement whatever its values are, as long as they are of the same kinds.
pub(super) struct Recipe {
    /// Its text as it was written, by which its shape is known.
    key: String,
    parcel: Parcel,
    kind: Kind,
    effect: Effect,
    /// Whether its columns may change without its text.
    may_change: bool,
    /// The columns that its text tells.
    told: Option<Shape>,
    /// Its exact form where that is its own text with other items.
    inline: Option<String>,
    /// With its `RETURNING`, and the names of those columns.
    returning: Option<(String, Vec<String>)>,
}

/// What the answers to a plan come to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This, and what was learnt on the way.
    Answer(Answer, Option<Shape>),
    /// The columns were not known, and now they are; the values are not exact.
    Learnt(Shape),
    /// The columns are others than they were. They are as many, so the values are right; of their
    /// names only those that are there twice are not.
    Stale(Answer),
}

impl Plan {
    /// Reads a command, unless `shapes` knows it. `alone`: nothing else goes with it in its request.
    ///
    /// # Errors
    /// `Unsupported` and `Statement`: it is not sent.
    pub(super) fn new(command: &Command, alone: bool, shapes: &Shapes) -> Result<Self> {
        if let Some(recipe) = shapes.recipe(&command.sql)
            && let Some(params) = recipe.parcel.params(&command.parameters)
        {
            return Ok(Self { recipe, params });
        }
        let (recipe, params) = Recipe::new(command, alone)?;
        let recipe = Arc::new(recipe);
        if recipe.is_lasting() {
            shapes.keep(&command.sql, &recipe);
        }
        Ok(Self { recipe, params })
    }

    /// The text as it was written, by which its shape is known.
    pub(super) fn key(&self) -> &str {
        &self.recipe.key
    }

    pub(super) fn effect(&self) -> Effect {
        self.recipe.effect
    }

    /// The columns that the text tells.
    pub(super) fn told(&self) -> Option<&Shape> {
        self.recipe.told.as_ref()
    }

    /// Whether its columns have to be known for its values to be exact.
    pub(super) fn needs_shape(&self) -> bool {
        self.recipe.kind == Kind::Read
    }

    /// What is sent for it, given its columns.
    ///
    /// # Errors
    /// `Statement`: it is longer than D1 takes.
    pub(super) fn statements(&self, shape: Option<&Shape>) -> Result<Vec<RawStatement>> {
        let Recipe { kind, parcel, may_change, returning, .. } = &*self.recipe;
        let statement = |sql: String| parcel::statement(sql, &self.params);
        let plain = || statement(parcel.sql.clone());
        Ok(match kind {
            Kind::Read => {
                let mut statements = vec![match self.exact(shape) {
                    Some(exact) => exact,
                    None => plain()?,
                }];
                if *may_change {
                    statements.push(statement(exact::probe(&parcel.sql))?);
                }
                statements
            }
            Kind::Write { .. } => {
                let sql = returning.as_ref().map_or(&parcel.sql, |(sql, _)| sql);
                let counters = RawStatement { sql: COUNTERS.to_owned(), params: Vec::new() };
                vec![statement(sql.clone())?, counters]
            }
            Kind::Ask | Kind::Define => vec![plain()?],
        })
    }

    /// How many answers there are to it.
    pub(super) fn answers(&self) -> usize {
        match self.recipe.kind {
            Kind::Read if self.recipe.may_change => 2,
            Kind::Write { .. } => 2,
            Kind::Read | Kind::Ask | Kind::Define => 1,
        }
    }

    /// The exact form, where the columns are known and it is not too long for D1: then the plain
    /// one may still do.
    fn exact(&self, shape: Option<&Shape>) -> Option<RawStatement> {
        self.exact_of(shape?).ok()
    }

    fn exact_of(&self, shape: &Shape) -> Result<RawStatement> {
        let sql = match &self.recipe.inline {
            Some(sql) => sql.clone(),
            None => exact::read(&self.recipe.parcel.sql, &shape.columns),
        };
        parcel::statement(sql, &self.params)
    }

    /// Whether its answers are certain to be exact if it is sent with `shape`. What goes with
    /// statements that write has to be: it cannot be sent again.
    ///
    /// # Errors
    /// `Statement`: its exact form is longer than D1 takes. `Internal`: its columns are not known.
    pub(super) fn check_readable(&self, shape: Option<&Shape>) -> Result<()> {
        if !self.needs_shape() {
            return Ok(());
        }
        let unknown = || {
            let why = "the columns of a statement that reads among others that write are not \
                       known, so nothing was sent";
            Error::new(ErrorKind::Internal, why)
        };
        self.exact_of(shape.ok_or_else(unknown)?).map(drop)
    }

    /// What the answers to [`Plan::statements`] with the same `shape` come to.
    ///
    /// # Errors
    /// `Internal`: they are not what was asked for. `Unsupported`: a value could be several.
    pub(super) fn outcome(
        &self,
        shape: Option<&Shape>,
        answers: Vec<RawAnswer>,
    ) -> Result<Outcome> {
        let mut answers = answers.into_iter();
        let missing = || Error::new(ErrorKind::Internal, "D1 answered less than it was asked");
        let first = answers.next().ok_or_else(missing)?;
        match self.recipe.kind {
            Kind::Read => self.read(shape, first, answers.next()),
            Kind::Write { inserts } => {
                let (rows_affected, rowid) = counters(&answers.next().ok_or_else(missing)?)?;
                let mut answer = match &self.recipe.returning {
                    Some((_, names)) => answer(names, first, Form::Exact)?,
                    None => Answer::default(),
                };
                answer.rows_affected = rows_affected;
                answer.last_insert_rowid = (inserts && rows_affected > 0).then_some(rowid);
                Ok(Outcome::Answer(answer, None))
            }
            Kind::Ask => {
                let names = first.columns.clone();
                Ok(Outcome::Answer(answer(&names, first, Form::Small)?, None))
            }
            Kind::Define => Ok(Outcome::Answer(Answer::default(), None)),
        }
    }

    fn read(
        &self,
        shape: Option<&Shape>,
        first: RawAnswer,
        probe: Option<RawAnswer>,
    ) -> Result<Outcome> {
        let Some(known) = shape else {
            let shape = self.shape(&first, probe.as_ref());
            return Ok(if exact::is_certain(&first.rows) {
                let answer = answer(&shape.columns, first, Form::Plain)?;
                Outcome::Answer(answer, Some(shape))
            } else {
                Outcome::Learnt(shape)
            });
        };
        let is_exact = self.recipe.inline.is_some() || self.exact(shape).is_some();
        let form = if is_exact { Form::Exact } else { Form::Plain };
        let probe = probe.map(|probe| self.written(probe.columns));
        match (&known.probe, probe) {
            (Some(before), Some(now)) if **before != *now => {
                Ok(Outcome::Stale(answer(&now, first, form)?))
            }
            _ => Ok(Outcome::Answer(answer(&known.columns, first, form)?, None)),
        }
    }

    /// The columns that the answers to the plain form tell.
    pub(super) fn shape(&self, first: &RawAnswer, probe: Option<&RawAnswer>) -> Shape {
        let written = |answer: &RawAnswer| self.written(answer.columns.clone()).into();
        Shape { columns: written(first), probe: probe.map(written) }
    }

    /// The names of columns as they would be if the parameters had not been replaced.
    fn written(&self, mut columns: Vec<String>) -> Vec<String> {
        for column in &mut columns {
            let names = self.recipe.parcel.names.iter();
            if let Some((_, written)) = names.into_iter().find(|(sent, _)| sent == column) {
                column.clone_from(written);
            }
        }
        columns
    }
}

impl Recipe {
    fn new(command: &Command, alone: bool) -> Result<(Self, Vec<String>)> {
        let text = Text::read(&command.sql)?;
        refusals::check(&text, alone)?;
        let (parcel, params) = Parcel::new(&text, &command.parameters)?;
        let told =
            || items::told(&text).map(|columns| Shape { columns: columns.into(), probe: None });
        let is_read = text.kind == Kind::Read;
        let reads = is_read || mt_core::only_reads(text.sql, DbBackend::Sqlite);
        let returning = match text.returning() {
            Some(_) => Some(exact::returning(&parcel.sql, &text)?),
            None => None,
        };
        let inline = inline::read(&text, &parcel.sql);
        let recipe = Self {
            key: text.sql.to_owned(),
            kind: text.kind,
            effect: if reads { Effect::Reads } else { Effect::Writes },
            may_change: is_read && items::may_change(&text),
            told: if is_read { told() } else { None },
            inline: inline.filter(|sql| sql.len() <= MAX_STATEMENT_BYTES),
            returning,
            parcel,
        };
        Ok((recipe, params))
    }

    /// Whether it serves again, in whatever company: what else may be refused for what goes with it.
    fn is_lasting(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::Write { .. }) && self.parcel.is_lasting()
    }

    /// How much it takes to keep it.
    pub(super) fn bytes(&self) -> usize {
        let returning = self.returning.as_ref().map_or(0, |(sql, _)| sql.len());
        let inline = self.inline.as_ref().map_or(0, String::len);
        self.key.len() + self.parcel.sql.len() + inline + returning
    }
}

fn answer(names: &[String], answer: RawAnswer, form: Form) -> Result<Answer> {
    let columns = names.iter().map(|name| Column { name: name.clone(), declared: None }).collect();
    Ok(Answer { columns, rows: exact::rows(answer.rows, names, form)?, ..Answer::default() })
}

/// Rows affected, and the last rowid.
fn counters(answer: &RawAnswer) -> Result<(u64, i64)> {
    let read = || match answer.rows.as_slice() {
        [row] => match row.as_slice() {
            [changes, rowid] => {
                Some((changes.as_str()?.parse().ok()?, rowid.as_str()?.parse().ok()?))
            }
            _ => None,
        },
        _ => None,
    };
    read().ok_or_else(|| {
        Error::new(ErrorKind::Internal, "D1 did not answer how many rows a statement changed")
    })
}
