//! The only place where the runtime asks what time it is.
#![expect(clippy::disallowed_methods, reason = "this is the driver's clock")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use meridian_types::Millis;

/// Wall-clock time, for stamps and expiry.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Time that does not step back, for deadlines: milliseconds since the node's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonic(Instant);

impl Monotonic {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Millis {
        Millis(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
