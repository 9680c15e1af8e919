//! The engines, each through its public interface only.

pub(crate) mod fjall;
pub(crate) mod lsm;
pub(crate) mod redb;
pub(crate) mod sled;
