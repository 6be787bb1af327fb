//! What was learnt of statements.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use super::plan::Recipe;

/// The columns of a statement that reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// As the engine names them.
    pub(super) columns: Arc<[String]>,
    /// Where they may change without the text: as the engine names them where no row is asked for,
    /// which is how the change is found out.
    pub(super) probe: Option<Arc<[String]>>,
}

/// The shapes of statements by their text, and how they are sent. Cheap to clone; all clones share
/// what was learnt.
///
/// Tenants have the same schema most of the time, so one serves all of a factory. Where one of them
/// differs, its answer is refused or does not fit, and the shape is learnt again.
#[derive(Clone)]
pub(crate) struct Shapes(Arc<Known>);

struct Known {
    shapes: Mutex<LruCache<String, Shape>>,
    recipes: Mutex<LruCache<String, Arc<Recipe>>>,
}

/// How many are kept.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1_024).expect("it is not zero");
/// Longer statements are learnt each time, so that what is kept of each kind stays below 16 MB.
const MAX_BYTES: usize = 16 * 1_024;

impl Shapes {
    pub(crate) fn new() -> Self {
        let shapes = Self(Arc::new(Known {
            shapes: Mutex::new(LruCache::new(CAPACITY)),
            recipes: Mutex::new(LruCache::new(CAPACITY)),
        }));
        // What a ping sends.
        shapes.known("SELECT 1", &["1"]);
        shapes
    }

    /// Tells the columns of a statement up front. There must be no `*` among them.
    pub(crate) fn known(&self, sql: &str, columns: &[&str]) {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.learn(sql, Shape { columns, probe: None });
    }

    pub(super) fn of(&self, sql: &str) -> Option<Shape> {
        locked(&self.0.shapes).get(sql).cloned()
    }

    pub(super) fn learn(&self, sql: &str, shape: Shape) {
        if sql.len() <= MAX_BYTES {
            locked(&self.0.shapes).put(sql.to_owned(), shape);
        }
    }

    pub(super) fn forget(&self, sql: &str) {
        locked(&self.0.shapes).pop(sql);
    }

    /// How `sql` was sent the last time.
    pub(super) fn recipe(&self, sql: &str) -> Option<Arc<Recipe>> {
        locked(&self.0.recipes).get(sql).map(Arc::clone)
    }

    pub(super) fn keep(&self, sql: &str, recipe: &Arc<Recipe>) {
        if sql.len() + recipe.bytes() <= MAX_BYTES {
            locked(&self.0.recipes).put(sql.to_owned(), Arc::clone(recipe));
        }
    }
}

fn locked<T>(cache: &Mutex<T>) -> MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Shapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shapes")
            .field("learnt", &locked(&self.0.shapes).len())
            .finish_non_exhaustive()
    }
}
