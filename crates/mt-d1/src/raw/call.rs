//! Commands on their way, and their answers.

use mt_core::{Error, ErrorKind};
use mt_remote::{Answer, Fault, StatementError};

use super::{
    Effect, RawAnswer, RawStatement, Wire,
    exact::TABLE,
    plan::{Outcome, Plan},
    shapes::{Shape, Shapes},
};

/// Commands on their way.
pub(super) struct Call<'a> {
    pub(super) plans: &'a [Plan],
    shapes: &'a Shapes,
    pub(super) known: Vec<Option<Shape>>,
}

impl<'a> Call<'a> {
    pub(super) fn new(plans: &'a [Plan], shapes: &'a Shapes) -> Self {
        let known = plans.iter().map(|plan| {
            let learnt = || plan.needs_shape().then(|| shapes.of(plan.key())).flatten();
            plan.told().cloned().or_else(learnt)
        });
        Self { plans, shapes, known: known.collect() }
    }

    pub(super) fn effect(&self) -> Effect {
        let reads = self.plans.iter().all(|plan| plan.effect() == Effect::Reads);
        if reads { Effect::Reads } else { Effect::Writes }
    }

    /// The plans whose columns are not known.
    pub(super) fn unknown(&self) -> Vec<usize> {
        let unknown = |&at: &usize| self.plans[at].needs_shape() && self.known[at].is_none();
        (0..self.plans.len()).filter(unknown).collect()
    }

    pub(super) fn learn(&mut self, at: usize, shape: Shape) {
        self.shapes.learn(self.plans[at].key(), shape.clone());
        self.known[at] = Some(shape);
    }

    pub(super) fn forget(&mut self) {
        for (plan, known) in self.plans.iter().zip(&mut self.known) {
            if known.take().is_some() {
                self.shapes.forget(plan.key());
            }
        }
    }

    /// Forgets what was learnt; what the text tells stays.
    pub(super) fn forget_learnt(&mut self) {
        for (plan, known) in self.plans.iter().zip(&mut self.known) {
            if plan.told().is_none() && known.take().is_some() {
                self.shapes.forget(plan.key());
            }
        }
    }

    /// Whether each answer will be one that can be read, whatever the values are.
    pub(super) fn check_readable(&self) -> Result<(), Error> {
        let mut plans = self.plans.iter().zip(&self.known);
        plans.try_for_each(|(plan, shape)| plan.check_readable(shape.as_ref()))
    }

    pub(super) async fn send(&self, wire: &dyn Wire) -> Result<Vec<RawAnswer>, Fault> {
        let mut statements = Vec::new();
        for (plan, shape) in self.plans.iter().zip(&self.known) {
            statements.extend(plan.statements(shape.as_ref())?);
        }
        send(wire, statements, self.effect()).await
    }

    /// The answers of all commands; `None` where it has to be sent again for one of them, which it
    /// never has to unless it may be sent `again`.
    ///
    /// # Errors
    /// What writes has taken effect: `OutcomeUnknown`, whatever it is that cannot be read.
    pub(super) fn read(
        &mut self,
        answers: Vec<RawAnswer>,
        again: bool,
    ) -> Result<Option<Vec<Answer>>, Error> {
        let counts: Vec<_> = self.plans.iter().map(Plan::answers).collect();
        let effect = self.effect();
        let mut done = Vec::with_capacity(self.plans.len());
        for (at, answers) in divided(answers, &counts).into_iter().enumerate() {
            let plan = &self.plans[at];
            let outcome = plan.outcome(self.known[at].as_ref(), answers);
            match outcome.map_err(|error| unread(effect, error))? {
                Outcome::Answer(answer, learnt) => {
                    done.push(answer);
                    if let Some(shape) = learnt {
                        self.learn(at, shape);
                    }
                }
                Outcome::Learnt(shape) if again => self.learn(at, shape),
                Outcome::Stale(answer) => {
                    self.shapes.forget(plan.key());
                    if again {
                        self.known[at] = None;
                    } else {
                        done.push(answer);
                    }
                }
                Outcome::Learnt(_) => {
                    let why = "D1 refuses the form in which a statement's answer would be exact; \
                               select each column with `AS` and a name";
                    return Err(unread(effect, Error::new(ErrorKind::Unsupported, why)));
                }
            }
        }
        Ok((done.len() == self.plans.len()).then_some(done))
    }

    /// Whether a refusal may be of the exact form alone.
    pub(super) fn may_be_stale(&self, error: &StatementError) -> bool {
        const SIGNS: [&str; 5] =
            ["syntax error", "incomplete input", "unrecognized token", "TOOBIG", "too many"];
        self.known.iter().any(Option::is_some)
            && (is_misfit(error) || SIGNS.iter().any(|sign| error.message.contains(sign)))
    }
}

/// Whether a statement has other columns than it was sent with.
pub(super) fn is_misfit(error: &StatementError) -> bool {
    // The second is of the term that comes first in a compound `SELECT`.
    const SIGNS: [&str; 2] = [TABLE, "do not have the same number of result columns"];
    SIGNS.iter().any(|sign| error.message.contains(sign))
}

/// An answer could not be read; what was asked for may have been done.
pub(super) fn unread(effect: Effect, error: Error) -> Error {
    match effect {
        Effect::Reads => error,
        Effect::Writes => Error::new(
            ErrorKind::OutcomeUnknown,
            "the statements were run on D1 and have taken effect, and their answer cannot be read; \
             do not repeat them",
        )
        .with_source(error),
    }
}

/// Sends statements; there are as many answers.
pub(super) async fn send(
    wire: &dyn Wire,
    statements: Vec<RawStatement>,
    effect: Effect,
) -> Result<Vec<RawAnswer>, Fault> {
    let expected = statements.len();
    let answers = wire.send(statements, effect).await?;
    if answers.len() == expected {
        return Ok(answers);
    }
    // Whatever it was, it was done.
    let kind = match effect {
        Effect::Reads => ErrorKind::Internal,
        Effect::Writes => ErrorKind::OutcomeUnknown,
    };
    let why = format!("D1 answered {} of {expected} statements", answers.len());
    Err(Error::new(kind, why).into())
}

/// `answers` cut into as many as there are for each.
pub(super) fn divided(answers: Vec<RawAnswer>, counts: &[usize]) -> Vec<Vec<RawAnswer>> {
    let mut answers = answers.into_iter();
    counts.iter().map(|&count| answers.by_ref().take(count).collect()).collect()
}
