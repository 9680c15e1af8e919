//! Doing harm: what begins and ends with the window of each fault.

use std::collections::BTreeMap;

use meridian_types::{Mutation, NodeId, broken};
use meridian_vfs::SyncMoment;

use super::World;
use crate::fault::{self, DiskPart, Edge, Fault, NodeFault, WayFault, Ways};
use crate::history::{FaultId, LossCause, What};
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::sim::{Death, Loss, Micros, Owner, Part, Rot, StreamId, Way};

/// The faults that last now.
pub(super) struct Active {
    /// The ways while nothing is wrong with them.
    base: BTreeMap<(NodeId, NodeId), Way>,
    ways: BTreeMap<FaultId, (Vec<(NodeId, NodeId)>, WayFault)>,
    /// What was counted when they began.
    began: BTreeMap<FaultId, (Micros, u64)>,
}

impl Active {
    pub(super) fn new(base: BTreeMap<(NodeId, NodeId), Way>) -> Self {
        Self { base, ways: BTreeMap::new(), began: BTreeMap::new() }
    }

    /// A way with everything that is wrong with it now.
    fn way(&self, pair: (NodeId, NodeId)) -> Option<Way> {
        let way = *self.base.get(&pair)?;
        let wrong = self.ways.values().filter(|(pairs, _)| pairs.contains(&pair));
        Some(wrong.fold(way, |way, (_, what)| what.on(way)))
    }
}

impl World {
    /// A fault's window begins or ends, now. `chance` decides what the fault does not say: which
    /// bit rots, which page is torn.
    pub fn apply(&mut self, id: FaultId, fault: &Fault, chance: u64, edge: Edge) {
        let now = self.agenda.now();
        if edge == Edge::Begin {
            let counted = self.counted(fault);
            self.faults.began.insert(id, (now, counted));
            let kind = match fault {
                Fault::Node { what, .. } => what.kind(),
                Fault::Ways { what, .. } => what.kind(),
            };
            self.record.note(Owner::World, kind, u64::from(id.0));
            self.record.tell(What::FaultBegan { fault: id, kind: kind.to_owned() });
        }
        let effect = match (fault, edge) {
            _ if broken(Mutation::SkipFaults) => self.counted(fault),
            (Fault::Node { node, what }, Edge::Begin) => {
                self.begin(*node, what, id, chance);
                0
            }
            (Fault::Node { node, what }, Edge::End) => self.end(*node, what, id),
            (Fault::Ways { ways, what }, edge) => {
                self.change_ways(id, ways, what, edge);
                self.counted(fault)
            }
        };
        if edge == Edge::End {
            let (_, before) = self.faults.began.remove(&id).unwrap_or_default();
            let effect = effect.saturating_sub(before);
            self.record.note(Owner::World, "fault over", u64::from(id.0));
            self.record.tell(What::FaultEnded { fault: id, effect });
        }
    }

    /// Says that nothing goes wrong any more.
    pub fn faults_over(&mut self) {
        self.healing = true;
        self.record.tell(What::FaultsOver);
    }

    /// What is counted of a fault of ways: messages that met it, or would have.
    fn counted(&self, fault: &Fault) -> u64 {
        let Fault::Ways { ways, what } = fault else { return 0 };
        let streams = ways.pairs().flat_map(|(from, to)| {
            meridian_transport::Class::EVERY.map(|class| StreamId { from, to, class })
        });
        let counts = streams.map(|stream| self.carrier.counted(stream));
        match what {
            WayFault::Lossy { .. } | WayFault::Datagrams { .. } => {
                counts.map(|count| count.disturbed).sum()
            }
            WayFault::Cut {} | WayFault::Slow { .. } | WayFault::Narrow { .. } => {
                counts.map(|count| count.tried).sum()
            }
        }
    }

    fn change_ways(&mut self, id: FaultId, ways: &Ways, what: &WayFault, edge: Edge) {
        let pairs: Vec<_> = ways.pairs().collect();
        match edge {
            Edge::Begin => drop(self.faults.ways.insert(id, (pairs.clone(), what.clone()))),
            Edge::End => drop(self.faults.ways.remove(&id)),
        }
        for (from, to) in pairs {
            let Some(new) = self.faults.way((from, to)) else { continue };
            self.carrier.change(from, to, new);
        }
    }

    fn begin(&mut self, id: NodeId, what: &NodeFault, fault: FaultId, chance: u64) {
        let now = self.agenda.now();
        let Some(machine) = self.machines.get_mut(&id) else { return };
        match what {
            NodeFault::Crash { loses } => {
                machine.held += 1;
                self.end_life(id, Death::Power, loss(*loses, chance));
            }
            NodeFault::Kill {} => {
                machine.held += 1;
                self.end_life(id, Death::Process, Loss::Nothing);
            }
            NodeFault::CrashAtSync { nth, after } => {
                let moment = if *after { SyncMoment::After } else { SyncMoment::Before };
                // Counted here: until the window ends a node that was cut stays down.
                machine.held += 1;
                machine.disk.cut_at_sync(u64::from(*nth), moment, Loss::Unsynced);
            }
            NodeFault::Stop {} => {
                machine.held += 1;
                self.stop(id);
            }
            NodeFault::Leave {} => {
                machine.gone = true;
                self.end_life(id, Death::Power, Loss::Unsynced);
            }
            NodeFault::Pause {} => self.pause(id),
            NodeFault::Wipe { part } => {
                machine.held += 1;
                self.end_life(id, Death::Power, Loss::Unsynced);
                self.disk_changes(id, LossCause::Wipe);
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.disk.wipe(disk_part(*part));
                }
            }
            NodeFault::Restore { .. } => {
                let snapshot = machine.disk.snapshot();
                machine.snapshots.insert(fault, snapshot);
            }
            NodeFault::Rot { bits } => {
                let rots = (0..u64::from(*bits)).filter_map(|bit| {
                    let seed = chance.wrapping_add(bit);
                    let of = if seed.is_multiple_of(2) { Rot::Table } else { Rot::Log };
                    machine.disk.rot(of, seed).or_else(|| machine.disk.rot(Rot::Table, seed))
                });
                let rotten = rots.count() as u64;
                machine.rotten |= rotten > 0;
                self.faults.began.insert(fault, (now, rotten));
                self.disk_changes(id, LossCause::Damage);
            }
            NodeFault::FullDisk { bytes_left } => {
                let used = machine.disk.data().used();
                machine.disk.set_quota(Some(used + bytes_left));
            }
            NodeFault::SlowDisk { by } => machine.disk.pace().slow_down(*by),
            NodeFault::ClockStep { by_ms, .. } => {
                machine.clock.lock().step(now, by_ms.saturating_mul(1_000));
            }
            NodeFault::ClockDrift { ppm } => machine.clock.lock().set_drift(now, *ppm),
        }
    }

    /// Returns the effect, with what was counted at the begin.
    fn end(&mut self, id: NodeId, what: &NodeFault, fault: FaultId) -> u64 {
        let now = self.agenda.now();
        let (began, counted) = self.faults.began.get(&fault).copied().unwrap_or_default();
        let lasted = (now - began).to_millis().max(1);
        let Some(machine) = self.machines.get_mut(&id) else { return counted };
        let mut effect = lasted;
        match what {
            NodeFault::Crash { .. }
            | NodeFault::Kill {}
            | NodeFault::Stop {}
            | NodeFault::Wipe { .. } => self.release(id),
            NodeFault::CrashAtSync { .. } => {
                machine.disk.data().clear_sync_hook();
                effect = if machine.life.is_none() { lasted } else { 0 };
                self.release(id);
            }
            NodeFault::Leave {} => {}
            NodeFault::Pause {} => self.resume(id),
            NodeFault::Restore { part } => {
                self.end_life(id, Death::Power, Loss::Unsynced);
                self.disk_changes(id, LossCause::Restore);
                if let Some(machine) = self.machines.get_mut(&id)
                    && let Some(snapshot) = machine.snapshots.remove(&fault)
                {
                    machine.disk.restore(&snapshot, disk_part(*part));
                }
                self.start(id);
            }
            NodeFault::Rot { .. } => {
                // What was counted was what it did.
                self.faults.began.insert(fault, (began, 0));
                return counted;
            }
            NodeFault::FullDisk { .. } => machine.disk.set_quota(None),
            NodeFault::SlowDisk { by } => machine.disk.pace().speed_up(*by),
            NodeFault::ClockStep { by_ms, returns } => {
                if *returns {
                    machine.clock.lock().step(now, by_ms.saturating_mul(-1_000));
                }
                effect = by_ms.unsigned_abs();
            }
            NodeFault::ClockDrift { ppm } => {
                machine.clock.lock().set_drift(now, 0);
                effect = lasted.saturating_mul(ppm.unsigned_abs());
            }
        }
        effect
    }

    fn disk_changes(&mut self, id: NodeId, cause: LossCause) {
        let at = self.agenda.now();
        if let Some(ended) = self.machines.get_mut(&id).and_then(|m| m.ended.as_mut()) {
            (ended.at, ended.cause) = (at, cause);
        }
        self.record.tell(What::DiskChanged { node: id, cause });
    }

    /// A window that kept a node down is over.
    fn release(&mut self, id: NodeId) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.held = machine.held.saturating_sub(1);
        }
        self.start(id);
    }

    fn pause(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.paused += 1;
        if machine.paused > 1 {
            return;
        }
        if let Some(owner) = machine.owner() {
            self.executor.freeze(owner);
            self.carrier.freeze(id);
            self.record.tell(What::Paused { node: id });
        }
    }

    fn resume(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.paused = machine.paused.saturating_sub(1);
        let Some(owner) = machine.owner().filter(|_| machine.paused == 0) else { return };
        if !self.executor.is_frozen(owner) {
            return;
        }
        self.executor.thaw(owner);
        self.carrier.thaw(id);
        self.record.tell(What::Resumed { node: id });
        let now = self.agenda.now();
        for (whose, due) in std::mem::take(&mut self.held_back) {
            if whose == owner {
                self.queue.push(now, super::Event::Disk { owner, due });
            } else {
                self.held_back.push((whose, due));
            }
        }
    }
}

/// How far the faults of a run may set any two wall clocks apart, in milliseconds.
pub(super) fn skew_ms(scenario: &Scenario, seed: u64) -> u64 {
    // A scenario whose faults cannot be drawn has none.
    let schedule = Schedule::drawn(scenario, seed).unwrap_or_default();
    let all = scenario.sim + scenario.heal;
    let skews = schedule.planned().iter().map(|planned| match &planned.fault {
        Fault::Node { what: NodeFault::ClockStep { by_ms, .. }, .. } => by_ms.unsigned_abs(),
        Fault::Node { what: NodeFault::ClockDrift { ppm }, .. } => {
            all.to_millis().saturating_mul(ppm.unsigned_abs()) / 1_000_000 + 1
        }
        _ => 0,
    });
    skews.fold(0, u64::saturating_add)
}

fn loss(loses: fault::Loss, chance: u64) -> Loss {
    match loses {
        fault::Loss::Unsynced => Loss::Unsynced,
        fault::Loss::Nothing => Loss::Nothing,
        fault::Loss::Torn => Loss::Torn(chance),
    }
}

fn disk_part(part: DiskPart) -> Part {
    match part {
        DiskPart::Data => Part::Data,
        DiskPart::Metadata => Part::Metadata,
        DiskPart::Both => Part::Both,
    }
}
