//! The log without threads and without a clock: somebody outside says when it is written and when
//! it is synced.
//!
//! Writers queue, as with the WAL thread: a write is numbered and visible when its call returns, is
//! in the file after a `write`, and settled after a `sync`. So a simulation has what a power cut is
//! about, the time between them, and has it at the same moment each time.

use std::sync::Arc;

use crate::db::{Core, Db};
use crate::error::Error;
use crate::options::SyncPolicy;

/// What is in the log's file and may be lost with the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// Batches written since the last sync.
    pub batches: u32,
    /// Their bytes, with what a group has around them.
    pub bytes: u64,
}

/// Keeps the log of one database: see [`Db::log_driver`].
///
/// Nothing waits for it: [`Db::wait`] is refused with [`Error::WouldWait`] while a commit is not
/// settled, and so is a write that finds [`crate::WAL_BUFFER_BYTES`] queued. What was registered
/// with [`Db::on_settled`] is called inside [`LogDriver::write`] and [`LogDriver::sync`], on their
/// thread; as with the WAL thread, whatever else makes the log durable ([`Db::sync`], a flush, a
/// close) calls it as well.
///
/// Dropping it writes nothing, so that a node that is killed leaves its disk as it was: from then
/// on each writer writes for itself, the next one also what is queued. To hand the log over in
/// order, sync first.
pub struct LogDriver {
    core: Arc<Core>,
}

impl std::fmt::Debug for LogDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (pending, unsynced) = (self.pending(), self.unsynced());
        let mut shown = f.debug_struct("LogDriver");
        shown.field("pending", &pending).field("unsynced", &unsynced).finish_non_exhaustive()
    }
}

impl LogDriver {
    /// Writes what is queued to the file, as one chunk. It is not durable then, unless that began a
    /// new segment: then everything before it is.
    ///
    /// # Errors
    /// [`Error::Full`]: it stays queued, writers are refused, and the next call tries again.
    /// [`Error::Poisoned`]: every write is refused from now on.
    pub fn write(&self) -> Result<(), Error> {
        self.core.log.write_pending()
    }

    /// Writes what is queued and makes everything durable. When it returns, everybody whose commit
    /// is settled now was called.
    ///
    /// # Errors
    /// As [`Self::write`]; those who wait are told.
    pub fn sync(&self) -> Result<(), Error> {
        self.core.log.sync()
    }

    /// What is in the file and not durable.
    #[must_use]
    pub fn unsynced(&self) -> Option<Unsynced> {
        self.core.log.unsynced().map(|(batches, bytes)| Unsynced { batches, bytes })
    }

    /// Whether something is queued that is not in the file.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.core.log.is_pending()
    }

    /// What the database was opened with: when a sync is due is up to who drives.
    #[must_use]
    pub fn policy(&self) -> SyncPolicy {
        self.core.log.policy()
    }
}

impl Drop for LogDriver {
    fn drop(&mut self) {
        self.core.log.driver_ends();
    }
}

impl Db {
    /// Takes the log over, if neither [`crate::Workers`] nor another driver keeps it: writers only
    /// queue from now on.
    #[must_use]
    pub fn log_driver(&self) -> Option<LogDriver> {
        let core = self.core.clone();
        core.log.driver_begins().then(|| LogDriver { core })
    }
}
