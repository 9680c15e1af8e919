//! How lives of nodes begin and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_runtime::{Host as _, Node, Parts};
use meridian_store::{Batches, Hints, MAX_BATCH_BYTES};
use meridian_telemetry::Metrics;
use meridian_types::NodeId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::machine::{Clocks, Ended, Life, Log, Up, clocks_of};
use super::{Event, World};
use crate::history::{LossCause, What};
use crate::sim::{Death, Host, Loss, Micros, Owner, Purpose, Streams};

/// How long a process takes from its start to the opening of its store.
const START_TAKES: Micros = Micros::from_millis(20);

/// After what time a start that was refused is tried again.
const START_AGAIN: Micros = Micros::from_secs(2);

/// A start that is through.
pub(super) struct Birth {
    owner: Owner,
    result: Result<(Arc<Node>, Clocks), String>,
}

impl World {
    /// Starts a node, unless it runs, or something keeps it down.
    pub(super) fn start(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.life.is_some() || machine.held > 0 || machine.gone {
            return;
        }
        let owner = Owner::Node { id, life: machine.lives };
        machine.lives += 1;
        machine.life = Some(Life { owner, up: None });
        // Of its own for each life, so that one life more shifts no other.
        let seed = xxh3_64_with_seed(&machine.lives.to_le_bytes(), self.seed);
        let host = Arc::new(Host::new(
            Arc::clone(&self.agenda),
            self.executor.spawner(),
            owner,
            Arc::clone(&machine.clock),
            Streams::new(seed).draw(Purpose::Node(id)),
            machine.disk.pace(),
        ));
        let (fs, metadata) = (machine.disk.fs(), machine.disk.metadata());
        let linker = self.carrier.linker(owner, id);
        let (cluster, births) = (Arc::clone(&self.cluster), Arc::clone(&self.births));
        let started = async move {
            host.sleep(host.now().plus(START_TAKES.to_millis())).await;
            let hints = Hints::in_memory(&metadata, cluster.hint_limits());
            let batches = Batches::in_memory(&metadata, MAX_BATCH_BYTES);
            let parts = Parts {
                host,
                batches: Arc::new(batches.map_err(|error| error.to_string())?),
                fs,
                hints: Arc::new(hints.map_err(|error| error.to_string())?),
                metadata: Arc::new(metadata),
                links: linker,
            };
            let started =
                Node::start_on(parts, cluster.node_options(id), Arc::new(Metrics::new())).await;
            let node = Arc::new(started.map_err(|error| error.to_string())?);
            let clocks = clocks_of(&node, id, &cluster);
            Ok((node, clocks))
        };
        let birth = async move {
            let result = started.await;
            births.lock().push(Birth { owner, result });
        };
        if self.cluster.cpu.is_some() {
            self.executor.ration(owner);
        }
        self.executor.spawn(owner, birth);
        if machine.paused > 0 {
            self.executor.freeze(owner);
        }
    }

    /// A start is through.
    pub(super) fn born(&mut self, Birth { owner, result }: Birth) {
        let Owner::Node { id, .. } = owner else { return };
        let Some(machine) = self.machines.get_mut(&id).filter(|m| m.is_now(owner)) else { return };
        let (node, clocks) = match result {
            Ok(born) => born,
            // The disk's power went in the middle of it.
            Err(_) if machine.disk.is_cut() => return,
            Err(why) => {
                self.record.note_bytes(owner, "refused", why.as_bytes());
                self.record.tell(What::StartRefused { node: id, why });
                machine.life = None;
                self.executor.kill(owner);
                self.carrier.end(id, Death::Process);
                self.queue.push(self.agenda.now() + START_AGAIN, Event::Start(id));
                return;
            }
        };
        let Some(driver) = node.store().log_driver() else { return };
        let incarnation = node.opened().incarnation;
        let says_lost = !node.opened().lost.is_empty();
        self.record.note(owner, "started", incarnation.0);
        self.record.tell(What::Started { node: id, incarnation });
        self.doors.open(id, owner, Arc::clone(&node));
        let log = Log::new(driver);
        if let Some(life) = &mut machine.life {
            life.up = Some(Up { node, log });
        }
        machine.found.clone_from(&clocks);
        if let Some(mut ended) = machine.ended.take() {
            if machine.rotten && says_lost {
                // It finds so itself, and says that it has lost them.
                ended.cause = LossCause::Damage;
            }
            let later = |other: NodeId| {
                let other = self.machines.get(&other)?;
                other.ended.is_none().then(|| other.found.clone())
            };
            for loss in ended.losses(id, &clocks, later) {
                self.record.tell(What::Lost(loss));
            }
        }
        self.tend(id);
    }

    /// Ends a life at once.
    pub(super) fn end_life(&mut self, id: NodeId, death: Death, loss: Loss) {
        self.note_end(id);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let Some(life) = machine.life.take() else {
            return machine.disk.crash(loss);
        };
        self.record.note(life.owner, "ended", 0);
        self.record.tell(What::Crashed { node: id });
        self.executor.kill(life.owner);
        self.doors.close(id);
        self.carrier.end(id, death);
        self.held_back.retain(|(owner, _)| *owner != life.owner);
        machine.disk.crash(loss);
    }

    /// Keeps what all replicas have now, to tell what is lost when that is known.
    pub(super) fn note_end(&mut self, id: NodeId) {
        let at = self.agenda.now();
        let cluster = &self.cluster;
        let now =
            |node: NodeId| Some(clocks_of(&self.machines.get(&node)?.up()?.node, node, cluster));
        let Some(had) = now(id) else { return };
        let others = self.machines.keys().filter(|&&other| other != id);
        let others: BTreeMap<_, _> = others.map(|&other| (other, now(other))).collect();
        if let Some(machine) = self.machines.get_mut(&id) {
            // A life that did not get so far as to know what was lost leaves that to the next.
            let cause = LossCause::Crash;
            machine.ended.get_or_insert(Ended { at, cause, had, others });
        }
    }

    /// Stops a node cleanly.
    pub(super) fn stop(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get(&id) else { return };
        let (Some(owner), Some(up)) = (machine.owner(), machine.up()) else {
            return self.end_life(id, Death::Process, Loss::Nothing);
        };
        self.doors.close(id);
        let (node, stops) = (Arc::clone(&up.node), Arc::clone(&self.stops));
        self.executor.spawn(owner, async move {
            let stopped = node.stop().await;
            stops.lock().push((owner, stopped.is_ok()));
        });
    }

    /// A stop is through.
    pub(super) fn stopped(&mut self, owner: Owner, in_order: bool) {
        let Owner::Node { id, .. } = owner else { return };
        if !in_order {
            return self.end_life(id, Death::Process, Loss::Nothing);
        }
        if self.machines.get(&id).is_none_or(|machine| !machine.is_now(owner)) {
            return;
        }
        self.note_end(id);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        self.record.note(owner, "stopped", 0);
        self.record.tell(What::Stopped { node: id });
        machine.life = None;
        self.executor.kill(owner);
        self.carrier.end(id, Death::Process);
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.disk.crash(Loss::Nothing);
        }
        self.start(id);
    }
}
