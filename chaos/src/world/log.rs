//! The log and the jobs of a node's store, which has no threads here: a write is in the file a
//! moment after it was made, durable when its policy and the disk say so.

use std::time::Duration;

use meridian_store::SyncPolicy;
use meridian_types::NodeId;

use super::cluster::WRITE_AFTER;
use super::{Event, World};
use crate::sim::{Death, Loss, Micros, Owner};

/// After what time something is tried again that found no room on the disk.
const FULL_AGAIN: Micros = Micros::from_millis(20);

/// After what time a job is tried again that failed.
const JOB_AGAIN: Micros = Micros::from_millis(200);

/// After what time a process that ended by itself is started again.
const RESTART_AFTER: Micros = Micros::from_millis(500);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// What is queued goes to the file.
    Write,
    /// The disk has synced.
    Sync,
    /// A flush or a compaction is done.
    Job,
}

impl World {
    /// Looks at what a node's tasks may have left for its disk.
    pub(super) fn tend(&mut self, id: NodeId) {
        let now = self.agenda.now();
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.disk.is_cut() {
            return self.end_life(id, Death::Power, Loss::Unsynced);
        }
        let Some(life) = &mut machine.life else { return };
        let (owner, Some(up)) = (life.owner, &mut life.up) else { return };
        if up.log.driver.pending() && !up.log.write_planned {
            up.log.write_planned = true;
            self.queue.push(now + WRITE_AFTER, Event::Disk { owner, due: Due::Write });
        }
    }

    /// Does what is due.
    pub(super) fn disk_due(&mut self, owner: Owner, due: Due) {
        let Owner::Node { id, .. } = owner else { return };
        if self.machines.get(&id).is_none_or(|machine| !machine.is_now(owner)) {
            return;
        }
        if self.executor.is_frozen(owner) {
            self.held_back.push((owner, due));
            return;
        }
        match due {
            Due::Write => self.write_log(id, owner),
            Due::Sync => self.sync_log(id, owner),
            Due::Job => self.do_job(id, owner),
        }
        let poisoned = self.machines.get(&id).and_then(|machine| {
            let up = machine.up()?;
            up.node.poisoned().filter(|_| !machine.disk.is_cut())
        });
        if poisoned.is_some() {
            // As its supervisor does with a process that cannot trust its disk any more.
            self.record.note(owner, "poisoned", 0);
            self.end_life(id, Death::Process, Loss::Nothing);
            self.queue.push(self.agenda.now() + RESTART_AFTER, Event::Start(id));
            return;
        }
        self.tend(id);
    }

    fn write_log(&mut self, id: NodeId, owner: Owner) {
        let now = self.agenda.now();
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let pace = machine.disk.pace();
        let Some(up) = machine.up_mut() else { return };
        up.log.write_planned = false;
        let written = up.log.driver.write();
        self.record.note(owner, "written", u64::from(written.is_ok()));
        if written.is_err() && up.node.poisoned().is_none() {
            up.log.write_planned = true;
            self.queue.push(now + FULL_AGAIN, Event::Disk { owner, due: Due::Write });
            return;
        }
        up.log.count();
        if !up.log.job_planned {
            up.log.job_planned = true;
            self.queue.push(now + pace.job(), Event::Disk { owner, due: Due::Job });
        }
        self.plan_sync(id, owner);
    }

    /// Plans the sync that is due for what is in the file.
    fn plan_sync(&mut self, id: NodeId, owner: Owner) {
        let now = self.agenda.now();
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let pace = machine.disk.pace();
        let Some(up) = machine.up_mut() else { return };
        let Some(unsynced) = up.log.driver.unsynced() else { return };
        let due = match up.log.driver.policy() {
            SyncPolicy::Always => now,
            SyncPolicy::Every { writes, .. } if unsynced.batches >= writes => now,
            SyncPolicy::Every { interval, .. } => now + micros(interval),
            SyncPolicy::Os => return,
        };
        if up.log.sync_at.is_none_or(|planned| due < planned) {
            let at = due + pace.sync();
            up.log.sync_at = Some(at);
            self.queue.push(at, Event::Disk { owner, due: Due::Sync });
        }
    }

    fn sync_log(&mut self, id: NodeId, owner: Owner) {
        let now = self.agenda.now();
        let up = self.machines.get_mut(&id).and_then(|machine| machine.up_mut());
        let Some(up) = up.filter(|up| up.log.sync_at.is_some_and(|at| at <= now)) else { return };
        up.log.sync_at = None;
        let synced = up.log.driver.sync();
        up.log.count();
        self.record.note(owner, "synced", u64::from(synced.is_ok()));
        if synced.is_err() && up.node.poisoned().is_none() {
            up.log.sync_at = Some(now + FULL_AGAIN);
            self.queue.push(now + FULL_AGAIN, Event::Disk { owner, due: Due::Sync });
            return;
        }
        self.plan_sync(id, owner);
    }

    fn do_job(&mut self, id: NodeId, owner: Owner) {
        let now = self.agenda.now();
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let pace = machine.disk.pace();
        let wall = machine.clock.lock().wall(now);
        let Some(up) = machine.up_mut() else { return };
        up.node.store().set_time(wall);
        if up.log.unflushed >= self.cluster.flush_bytes {
            let flushed = up.node.store().flush();
            self.record.note(owner, "flushed", u64::from(flushed.is_ok()));
            up.log.count();
            up.log.unflushed = if flushed.is_ok() { 0 } else { up.log.unflushed };
        }
        let again = match up.node.store().poll_job() {
            Ok(true) => pace.job(),
            Ok(false) => {
                up.log.job_planned = false;
                return;
            }
            Err(_) => JOB_AGAIN,
        };
        self.record.note(owner, "job", 0);
        self.queue.push(now + again, Event::Disk { owner, due: Due::Job });
    }
}

fn micros(span: Duration) -> Micros {
    Micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}
