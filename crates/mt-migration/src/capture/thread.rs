use std::{any::Any, io, panic::AssertUnwindSafe, pin::pin, thread};

use futures_util::{
    FutureExt as _,
    future::{self, Either},
};
use sea_orm_migration::{MigrationTrait, SchemaManager};
use tokio::{
    runtime::Handle,
    sync::{mpsc::UnboundedSender, oneshot},
};
use tracing::Instrument as _;

use super::{Ended, Event, Job, mock};
use crate::session::Direction;

/// Starts a thread that runs `job` and tells of it to `events`, until `given_up` says otherwise.
pub(super) fn spawn(
    job: Job,
    events: UnboundedSender<Event>,
    given_up: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = Handle::try_current().ok();
    let span = tracing::Span::current();
    let work = move || {
        // Makes timers, sockets and `tokio::spawn` work in a migration. The runtime drives them; the
        // migration itself is polled by an executor that is not tokio's, because waiting for an
        // answer blocks the thread, and tokio's own executors refuse that in places.
        let _entered = runtime.as_ref().map(Handle::enter);
        futures_executor::block_on(async move {
            match future::select(pin!(run(job, events).instrument(span)), given_up).await {
                Either::Left(((), _)) | Either::Right(_) => {}
            }
        });
    };
    thread::Builder::new().name("mt-migration".to_owned()).spawn(work).map(drop)
}

async fn run(job: Job, events: UnboundedSender<Event>) {
    let connection = mock::connect(job.backend, events.clone());
    let manager = SchemaManager::new(&connection);
    for migration in job.names.iter().filter_map(|name| job.runner.find(name)) {
        let ended = run_one(migration, &manager, job.direction).await;
        let is_last = ended.is_err();
        if events.send(Event::Done(ended)).is_err() || is_last {
            return;
        }
    }
}

async fn run_one(
    migration: &dyn MigrationTrait,
    manager: &SchemaManager<'_>,
    direction: Direction,
) -> Result<(), Ended> {
    // Nothing of the migration's is looked at after a panic but the statements it has handed out,
    // and those are thrown away.
    let work = AssertUnwindSafe(async {
        match direction {
            Direction::Up => migration.up(manager).await,
            Direction::Down => migration.down(manager).await,
        }
    });
    match work.catch_unwind().await {
        Ok(result) => result.map_err(Ended::Failed),
        Err(payload) => Err(Ended::Panicked(to_text(&*payload))),
    }
}

/// What a panic said.
fn to_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it did not say why")
        .to_owned()
}
