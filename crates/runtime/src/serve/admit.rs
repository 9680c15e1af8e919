//! The check at the door: whether a request is begun.

use std::sync::Arc;

use meridian_service::{CallContext, Outcome, Request, RequestError};
use meridian_types::{ConsistencyLevel, Mutation, broken};

use super::Handed;
use crate::admission::{Admission, MAX_BYTES, Overloaded, WEIGHT};
use crate::in_flight::{MAX_BYTES_IN_FLIGHT, MAX_IN_FLIGHT};
use crate::node::Inner;
use crate::put::millis;

/// A request that was let in, until it is answered or given up.
struct Permit<'a> {
    admission: &'a Admission,
    bytes: u64,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.admission.ended(self.bytes);
    }
}

impl Inner {
    /// Serves a request, unless it cannot be answered in time: then nothing is done for it. What
    /// asks about the cluster always gets in: those who look after an overloaded node need it.
    pub(crate) async fn admit_and_serve(
        self: &Arc<Self>,
        context: CallContext,
        request: Request,
        handed: Handed,
    ) -> Result<Outcome, RequestError> {
        if !request.is_of_data() {
            return self.serve(context, request, handed).await;
        }
        let _permit = self.admit(&context, &request)?;
        self.serve(context, request, handed).await
    }

    fn admit(&self, context: &CallContext, request: &Request) -> Result<Permit<'_>, RequestError> {
        let bytes = WEIGHT * request.keys() as u64 + request.bytes() as u64;
        let admission = &self.admission;
        let now = self.host.now();
        match admission.admit(bytes, millis(context.timeout), now) {
            Ok(()) => Ok(Permit { admission, bytes }),
            Err(why) => {
                self.metrics.admission().refused.inc();
                Err(overloaded(why))
            }
        }
    }

    /// Refuses a request when too many wait already.
    pub(crate) fn check_room(&self) -> Result<(), RequestError> {
        if self.exchanges.has_room() {
            return Ok(());
        }
        let (queue, limit) = if self.exchanges.len() < MAX_IN_FLIGHT {
            ("bytes in flight", MAX_BYTES_IN_FLIGHT)
        } else {
            ("requests in flight", MAX_IN_FLIGHT)
        };
        Err(RequestError::Overloaded { queue, limit })
    }

    /// Refuses a step of a request that has no time left: nobody waits for what it would do.
    pub(crate) fn check_time(
        &self,
        context: &CallContext,
        level: ConsistencyLevel,
    ) -> Result<(), RequestError> {
        if !context.timeout.is_zero() || broken(Mutation::WorkPastDeadline) {
            return Ok(());
        }
        self.metrics.admission().late.inc();
        Err(RequestError::Timeout { level, acks: Vec::new(), write: false })
    }
}

fn overloaded(why: Overloaded) -> RequestError {
    let (queue, limit) = match why {
        Overloaded::Bytes => ("bytes of requests that wait", MAX_BYTES),
        Overloaded::Wait { at_most_ms } => ("milliseconds that it may wait", at_most_ms),
    };
    RequestError::Overloaded { queue, limit: usize::try_from(limit).unwrap_or(usize::MAX) }
}
