use sea_orm::{ConnectionTrait, DbErr, EntityTrait, Select, sea_query::IntoValueTuple};
use serde::{Deserialize, Serialize};

/// Which part of a list to read: so many rows, after the last one of the page before.
///
/// `K` is what the list is ordered by. A page costs the same wherever it is in the list, and rows
/// that are added meanwhile shift nothing. Deserialising checks the limit, so a query string can
/// be read into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields<K>")]
pub struct Page<K> {
    limit: u64,
    after: Option<K>,
}

#[derive(Deserialize)]
struct Fields<K> {
    limit: Option<u64>,
    after: Option<K>,
}

/// A limit outside of 1 to [`Page::MAX_LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page of {0} rows; expected 1 to {max}", max = Page::<()>::MAX_LIMIT)]
pub struct InvalidLimit(pub u64);

impl<K> Page<K> {
    /// The most rows in one page: few enough to hold in memory.
    pub const MAX_LIMIT: u64 = 500;

    /// How many rows [`Page::default`] asks for.
    pub const DEFAULT_LIMIT: u64 = 50;

    /// The first `limit` rows.
    ///
    /// # Errors
    /// If `limit` is 0 or more than [`Page::MAX_LIMIT`].
    pub const fn first(limit: u64) -> Result<Self, InvalidLimit> {
        if limit == 0 || limit > Self::MAX_LIMIT {
            return Err(InvalidLimit(limit));
        }
        Ok(Self { limit, after: None })
    }

    /// The rows after the one whose key is `key`: the last one of the page before.
    #[must_use]
    pub fn after(mut self, key: K) -> Self {
        self.after = Some(key);
        self
    }

    /// How many rows at most.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Reads this part of `select`, ordered by the unique column `by`.
    pub(crate) async fn read<E, C>(
        self,
        select: Select<E>,
        by: E::Column,
        order: Order,
        db: &C,
    ) -> Result<Vec<E::Model>, DbErr>
    where
        E: EntityTrait<Model: Sync>,
        C: ConnectionTrait,
        K: IntoValueTuple,
    {
        let mut cursor = select.cursor_by(by);
        match order {
            Order::Ascending => cursor.asc(),
            Order::Descending => cursor.desc(),
        };
        if let Some(key) = self.after {
            cursor.after(key);
        }
        cursor.first(self.limit).all(db).await
    }
}

/// Which end of a list comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

impl<K> Default for Page<K> {
    fn default() -> Self {
        Self { limit: Self::DEFAULT_LIMIT, after: None }
    }
}

impl<K> TryFrom<Fields<K>> for Page<K> {
    type Error = InvalidLimit;

    fn try_from(fields: Fields<K>) -> Result<Self, InvalidLimit> {
        let limit = fields.limit.unwrap_or(Self::DEFAULT_LIMIT);
        Ok(Self { after: fields.after, ..Self::first(limit)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_out_of_range_is_refused() {
        assert_eq!(Page::<i64>::first(0), Err(InvalidLimit(0)));
        assert_eq!(Page::<i64>::first(501), Err(InvalidLimit(501)));
        assert_eq!(Page::<i64>::first(500).unwrap().limit(), 500);
    }

    #[test]
    fn deserialising_checks_too() {
        let page: Page<i64> = serde_json::from_str(r#"{"limit":2,"after":7}"#).unwrap();
        assert_eq!(page, Page::first(2).unwrap().after(7));
        assert_eq!(serde_json::from_str::<Page<i64>>("{}").unwrap(), Page::default());
        assert!(serde_json::from_str::<Page<i64>>(r#"{"limit":100000}"#).is_err());
    }
}
