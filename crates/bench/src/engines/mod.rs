//! The engines, each through its public interface only.

pub(crate) mod fjall;
pub(crate) mod lsm;
pub(crate) mod redb;
#[cfg(feature = "rocksdb")]
pub(crate) mod rocksdb;
pub(crate) mod sled;
