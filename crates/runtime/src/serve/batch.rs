//! Many keys in one request, each on its own.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use meridian_service::{
    Batch, BatchOutcome, CallContext, Get, MultiGet, Outcome, Put, RequestError,
};

use super::{Budget, Handed};
use crate::node::Inner;
use crate::session::Sessional;

/// Keys of one request that are under way at once: enough to hide a link's round trip, few enough
/// that one request does not fill the table of waiting ones.
pub(crate) const KEYS_AT_ONCE: usize = 256;

impl Inner {
    pub(crate) async fn multi_get(
        self: &Arc<Self>,
        context: &CallContext,
        request: MultiGet,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        let MultiGet { table, keys, consistency, with_context } = request;
        self.check_count(keys.len())?;
        self.table(&table)?;
        let budget = &Budget::new(context, self.host.now());
        let gets = keys.into_iter().map(|key| {
            let get = Get { table: table.clone(), key, consistency, with_context };
            async move { self.get(&budget.left(self.host.now()), get, session).await }
        });
        Ok(Outcome::MultiGot(stream::iter(gets).buffered(KEYS_AT_ONCE).collect().await))
    }

    pub(crate) async fn batch(
        self: &Arc<Self>,
        context: &CallContext,
        request: Batch,
        session: Sessional<'_>,
    ) -> Result<Outcome, RequestError> {
        let Batch { table, items, consistency } = request;
        self.check_count(items.len())?;
        self.table(&table)?;
        let budget = &Budget::new(context, self.host.now());
        let puts = items.into_iter().map(|item| {
            let table = table.clone();
            let put = Put { table, item, condition: None, consistency, with_context: false };
            async move {
                let left = budget.left(self.host.now());
                match self.put(&left, put, Handed::No, session).await? {
                    Outcome::Put(done) => Ok(done),
                    _ => Err(RequestError::Stopping),
                }
            }
        });
        let results = stream::iter(puts).buffered(KEYS_AT_ONCE).collect().await;
        Ok(Outcome::Batch(BatchOutcome { results }))
    }

    fn check_count(&self, keys: usize) -> Result<(), RequestError> {
        let limit = self.options.limits.batch_keys;
        if keys <= limit {
            return Ok(());
        }
        let why = format!("{keys} keys are too many; at most {limit} are allowed in one request");
        Err(RequestError::InvalidArgument { what: "keys", why })
    }
}
