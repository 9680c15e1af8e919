//! What keeps a database well: copies of it while it is written to, sorted data brought in at
//! once, and the proof that every byte is what was written.

pub mod backup;
pub(crate) mod checkpoint;
pub(crate) mod ingest;
pub mod inspect;
pub(crate) mod repair;
pub(crate) mod verify;
