//! The wall clock, for expiries that are given relative to now.

use std::time::{SystemTime, UNIX_EPOCH};

use meridian_types::Millis;

/// The present time. A clock before 1970 counts as 1970.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
