//! D1 as a [`Protocol`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use mt_core::{Error, ErrorKind};
use mt_remote::{
    Answer, Command, Fault, Part, Protocol, ProtocolTransaction, StatementError, TransactionMode,
};

use super::{
    Effect, Wire,
    call::{Call, divided, is_misfit, send, unread},
    plan::Plan,
    shapes::Shapes,
};

/// Statements to one database, exactly, each call in one request where the columns are known.
pub(crate) struct D1Protocol {
    wire: Arc<dyn Wire>,
    shapes: Shapes,
}

/// How often one call is sent: what reads with columns that are no longer right, to learn them, and
/// with them; what writes as often, should they change again meanwhile.
const MAX_SENDINGS: usize = 3;

impl D1Protocol {
    /// Speaks over `wire`. `shapes` is what is known of statements, and what is learnt goes there.
    pub(crate) fn new(wire: Arc<dyn Wire>, shapes: Shapes) -> Self {
        Self { wire, shapes }
    }

    /// Runs commands as one atomic unit.
    async fn run(&self, commands: &[Command]) -> Result<Vec<Answer>, Fault> {
        let alone = commands.len() == 1;
        let plans = commands.iter().map(|command| Plan::new(command, alone, &self.shapes));
        let plans = plans.collect::<Result<Vec<_>, _>>()?;
        if plans.is_empty() {
            return Ok(Vec::new());
        }
        let call = Call::new(&plans, &self.shapes);
        match call.effect() {
            Effect::Reads => self.read(call).await,
            Effect::Writes => self.write(call).await,
        }
    }

    /// Runs what only reads: it may be sent as often as it takes.
    async fn read(&self, mut call: Call<'_>) -> Result<Vec<Answer>, Fault> {
        for sending in 1..=MAX_SENDINGS {
            match call.send(self.wire.as_ref()).await {
                Ok(answers) => {
                    if let Some(answers) = call.read(answers, sending < MAX_SENDINGS)? {
                        return Ok(answers);
                    }
                }
                Err(Fault::Statement(error)) if call.may_be_stale(&error) => call.forget(),
                Err(fault) => return Err(told(fault)),
            }
        }
        Err(unsettled("repeat it"))
    }

    /// Runs what writes: it takes effect once at most, so it is only sent in a form whose answer can
    /// be read, and only sent again where it was refused.
    async fn write(&self, mut call: Call<'_>) -> Result<Vec<Answer>, Fault> {
        self.learn(&mut call).await?;
        for _ in 1..MAX_SENDINGS {
            let refused = match self.write_once(&mut call).await {
                Err(Fault::Statement(error)) if call.may_be_stale(&error) => error,
                done => return done.map_err(told),
            };
            let before = call.known.clone();
            call.forget_learnt();
            self.learn(&mut call).await?;
            if call.known == before {
                return Err(refused_in_place(refused));
            }
        }
        match self.write_once(&mut call).await {
            Err(Fault::Statement(error)) if is_misfit(&error) => {
                call.forget_learnt();
                Err(unsettled("nothing was done; repeat it"))
            }
            done => done.map_err(told),
        }
    }

    /// Sends what writes. What comes of an answer is final: the statements have taken effect.
    async fn write_once(&self, call: &mut Call<'_>) -> Result<Vec<Answer>, Fault> {
        call.check_readable()?;
        let answers = call.send(self.wire.as_ref()).await?;
        call.read(answers, false)?.ok_or_else(|| {
            let why = "D1 answered less than it was asked";
            unread(Effect::Writes, Error::new(ErrorKind::Internal, why)).into()
        })
    }

    /// Learns the columns of what is read between writes, by reading it without them.
    async fn learn(&self, call: &mut Call<'_>) -> Result<(), Fault> {
        let unknown = call.unknown();
        let plans = || unknown.iter().map(|&at| &call.plans[at]);
        let mut statements = Vec::new();
        for plan in plans() {
            statements.extend(plan.statements(None)?);
        }
        if statements.is_empty() {
            return Ok(());
        }
        let counts: Vec<_> = plans().map(Plan::answers).collect();
        match send(self.wire.as_ref(), statements, Effect::Reads).await {
            Ok(answers) => {
                for (&at, answers) in unknown.iter().zip(divided(answers, &counts)) {
                    if let Some((first, rest)) = answers.split_first() {
                        let shape = call.plans[at].shape(first, rest.first());
                        call.learn(at, shape);
                    }
                }
                Ok(())
            }
            Err(fault @ Fault::Statement(_)) => Err(refused_unsent(fault)),
            Err(fault) => Err(fault),
        }
    }
}

/// A statement that reads among others that write was refused when it was read without them.
fn refused_unsent(fault: Fault) -> Fault {
    let why = "a statement that reads among others that write was refused before they were sent; \
               if it reads what they are to make, select each column with `AS` and a name";
    let fault = Error::from(told(fault));
    Error::new(ErrorKind::Statement, why).with_source(fault).into()
}

/// What writes was refused, and the columns of what it reads are those that it was sent with.
fn refused_in_place(error: StatementError) -> Fault {
    if !is_misfit(&error) {
        return told(Fault::Statement(error));
    }
    let why = "statements change the columns that one among them reads, and nothing was done; \
               select each column with `AS` and a name";
    let fault = Error::from(told(Fault::Statement(error)));
    Error::new(ErrorKind::Statement, why).with_source(fault).into()
}

fn unsettled(what_to_do: &str) -> Fault {
    let why = format!(
        "the columns of a statement changed each time that it was sent to D1; {what_to_do}"
    );
    Error::new(ErrorKind::Unavailable, why).into()
}

/// The engine's words without where in the text it was, because that was another text.
fn told(fault: Fault) -> Fault {
    match fault {
        Fault::Statement(error) => {
            Fault::Statement(StatementError::new(without_offset(&error.message), error.code))
        }
        Fault::Other(error) => Fault::Other(error),
    }
}

pub(super) fn without_offset(message: &str) -> String {
    const OFFSET: &str = " at offset ";
    let Some(at) = message.rfind(OFFSET) else { return message.to_owned() };
    let rest = &message[at + OFFSET.len()..];
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if after.len() == rest.len() || !(after.is_empty() || after.starts_with(": SQLITE_")) {
        return message.to_owned();
    }
    format!("{}{after}", &message[..at])
}

impl fmt::Debug for D1Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("D1Protocol")
            .field("wire", &self.wire)
            .field("shapes", &self.shapes)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Protocol for D1Protocol {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        let answers = self.run(&[command]).await?;
        let broken = || Error::new(ErrorKind::Internal, "a statement has no answer").into();
        answers.into_iter().next().ok_or_else(broken)
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        self.run(&commands).await
    }

    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>> {
        let parts = async move {
            let answer = self.execute(command).await?;
            let rows = answer.rows.into_iter().map(Part::Row);
            let parts = [Part::Columns(answer.columns)].into_iter().chain(rows);
            Ok::<_, Fault>(stream::iter(parts).map(Ok))
        };
        stream::once(parts).try_flatten().boxed()
    }

    async fn batch(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        self.run(&commands).await
    }

    async fn begin(&self, _mode: TransactionMode) -> Result<Box<dyn ProtocolTransaction>, Fault> {
        let why = "D1 has no interactive transactions; send what belongs together, with the \
                   conditions under which it may happen, with `data.batch()`";
        Err(Error::new(ErrorKind::Unsupported, why).into())
    }

    async fn close(&self) -> Result<(), Fault> {
        Ok(())
    }
}
