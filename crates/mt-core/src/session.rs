use std::{
    any::Any,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use crate::Connections;

/// Open connections, and what must be held until they are closed, such as a lock file.
///
/// Closing goes on when whoever asked for it gives up, and everybody who asks waits for the same
/// one: what protects a database from others is let go of only once nothing can write to it.
#[derive(Debug)]
pub(crate) struct Session {
    // In this order: dropped without a runtime, connections go before what protects them.
    connections: Vec<Connections>,
    holds: Mutex<Vec<Hold>>,
    closing: Mutex<Option<Closing>>,
}

type Closing = Shared<BoxFuture<'static, ()>>;

struct Hold(#[expect(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>);

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

impl Session {
    pub(crate) fn new(connections: impl IntoIterator<Item = Connections>) -> Self {
        Self {
            connections: connections.into_iter().collect(),
            holds: Mutex::default(),
            closing: Mutex::default(),
        }
    }

    /// Keeps `hold` until the connections are closed.
    pub(crate) fn hold(&self, hold: impl Any + Send + Sync) {
        lock(&self.holds).push(Hold(Box::new(hold)));
    }

    /// Closes the connections, after what runs on them, then lets go of what is held.
    pub(crate) async fn close(&self) {
        let closing = {
            let mut closing = lock(&self.closing);
            closing
                .get_or_insert_with(|| {
                    let task = tokio::spawn(self.to_close());
                    async move { drop(task.await) }.boxed().shared()
                })
                .clone()
        };
        closing.await;
    }

    fn to_close(&self) -> impl Future<Output = ()> + Send + 'static {
        let connections = self.connections.clone();
        let holds = std::mem::take(&mut *lock(&self.holds));
        async move {
            for connection in &connections {
                if let Err(error) = connection.close().await {
                    tracing::warn!(error = %error, "a database did not close cleanly");
                }
            }
            drop(holds);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let is_closing = lock(&self.closing).is_some();
        if let (false, Ok(runtime)) = (is_closing, tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn(self.to_close()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
