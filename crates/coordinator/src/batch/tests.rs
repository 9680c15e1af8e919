//! Two writes, two nodes that keep the batch, every order of messages, and every participant dead
//! after every one of them: in the end all or nothing, and all if the client was told so.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_crdt::{ConflictPolicy, Context, Delta, Dot, Entry, Row, VnodeClock};
use meridian_types::{BatchId, Hlc, KeyspaceId, Millis, NodeId, RowKey, TableId, VnodeId, WriteId};

use super::*;
use crate::message::VnodeDot;
use crate::testing::{Cluster, HOME, dot, row_key};

const POLICY: ConflictPolicy = ConflictPolicy::Siblings;
const COORDINATOR: NodeId = NodeId(1);
const HOLDERS: [NodeId; 2] = [NodeId(2), NodeId(3)];
/// Each has one of the rows.
const REPLICAS: [NodeId; 2] = [NodeId(4), NodeId(5)];

fn row_of(write: usize) -> RowKey {
    let vnode = VnodeId(u32::try_from(write).unwrap());
    let key = Bytes::from(format!("k{write}"));
    RowKey { keyspace: KeyspaceId(1), table: TableId(2), vnode, key }
}

fn plan(candidates: &[NodeId]) -> BatchPlan {
    let write = |write: usize| BatchWrite {
        row: row_of(write),
        value: Some(Bytes::from_static(b"batch")),
        expires: None,
        context: Context::default(),
        over_what_is_here: false,
        write_id: WriteId::from_bytes([1; 16]),
        reservers: vec![REPLICAS[write]],
    };
    BatchPlan {
        id: BatchId::from_bytes([7; 16]),
        stamp: Hlc(5),
        writes: vec![write(0), write(1)],
        candidates: candidates.to_vec(),
        copies: COPIES.min(candidates.len()),
        deadline: Millis(1_000),
    }
}

#[derive(Clone, Debug)]
enum Message {
    ToReplica { write: usize, named: Option<NamedWrite> },
    ToHolder { at: NodeId, batch: LoggedBatch },
    Forget { at: NodeId },
    Back { from: NodeId, event: BatchEvent },
}

#[derive(Clone, Default)]
struct Replica {
    row: Row,
    clock: VnodeClock,
    reserved: BTreeSet<Dot>,
    given: u64,
}

impl Replica {
    fn apply(&mut self, delta: Delta) {
        if self.clock.insert(delta.entry.dot) {
            self.row.apply(POLICY, delta);
            self.row.strip(&self.clock);
        }
    }

    fn shows(&self, value: &str) -> bool {
        let visible = self.row.entries().iter().filter_map(|entry| entry.value.as_deref());
        visible.into_iter().any(|shown| shown == value.as_bytes())
    }
}

#[derive(Clone)]
struct World {
    machine: Option<BatchMachine>,
    logs: BTreeMap<NodeId, LoggedBatch>,
    replicas: [Replica; 2],
    dead: Option<NodeId>,
    wire: Vec<Message>,
    told: Option<Result<(), bool>>,
    /// The batch, once somebody had it.
    seen: Option<LoggedBatch>,
}

impl World {
    fn begin() -> Self {
        let mut world = Self {
            machine: None,
            logs: BTreeMap::new(),
            replicas: Default::default(),
            dead: None,
            wire: Vec::new(),
            told: None,
            seen: None,
        };
        let mut actions = Vec::new();
        world.machine = Some(BatchMachine::start(plan(&HOLDERS), &mut actions));
        world.perform(actions);
        world
    }

    fn perform(&mut self, actions: Vec<BatchAction>) {
        for action in actions {
            match action {
                BatchAction::Reserve { write, at, .. } => {
                    assert_eq!(at, REPLICAS[write]);
                    self.wire.push(Message::ToReplica { write, named: None });
                }
                BatchAction::Keep { at, batch } => {
                    self.seen = Some(batch.clone());
                    self.wire.push(Message::ToHolder { at, batch });
                }
                BatchAction::Write { write, named } => {
                    assert_eq!(self.logs.len(), 2, "nothing goes out before it is kept");
                    self.wire.push(Message::ToReplica { write, named: Some(named) });
                }
                BatchAction::Reply(result) => {
                    assert!(self.told.is_none(), "told twice");
                    self.told = Some(result.map(drop).map_err(|failure| failure.is_unknown()));
                }
                BatchAction::Done(Some(batch)) if self.has_all(&batch) => {
                    self.wire.extend(HOLDERS.map(|at| Message::Forget { at }));
                }
                BatchAction::Done(_) => {}
            }
        }
    }

    fn has_all(&self, batch: &LoggedBatch) -> bool {
        let mut pairs = batch.writes.iter().zip(&self.replicas);
        pairs.all(|(write, replica)| replica.clock.contains(write.delta.entry.dot))
    }

    fn tell(&mut self, event: BatchEvent) {
        let Some(machine) = &mut self.machine else { return };
        let mut actions = Vec::new();
        machine.step(event, Millis(0), &mut actions);
        self.perform(actions);
    }

    fn deliver(&mut self, at: usize) {
        match self.wire.remove(at) {
            Message::ToReplica { write, named } if self.dead == Some(REPLICAS[write]) => {
                let from = REPLICAS[write];
                let event = match named {
                    None => BatchEvent::NotReserved { write, from },
                    Some(_) => BatchEvent::NotWritten { write },
                };
                self.wire.push(Message::Back { from, event });
            }
            Message::ToReplica { write, named } => {
                let (from, replica) = (REPLICAS[write], &mut self.replicas[write]);
                let event = match named {
                    None => {
                        replica.given += 1;
                        let dot = dot(from, replica.given);
                        replica.reserved.insert(dot);
                        let (context, not_below) = (Context::default(), Hlc::ZERO);
                        BatchEvent::Reserved { write, from, dot, context, not_below }
                    }
                    Some(named) => {
                        replica.apply(named.delta);
                        BatchEvent::Written { write }
                    }
                };
                self.wire.push(Message::Back { from, event });
            }
            Message::ToHolder { at, .. } if self.dead == Some(at) => {
                let event = BatchEvent::NotKept { by: at, perhaps: true };
                self.wire.push(Message::Back { from: at, event });
            }
            Message::ToHolder { at, batch } => {
                self.logs.insert(at, batch);
                self.wire.push(Message::Back { from: at, event: BatchEvent::Kept { by: at } });
            }
            Message::Forget { at } if self.dead != Some(at) => drop(self.logs.remove(&at)),
            Message::Forget { .. } => {}
            Message::Back { event, .. } => self.tell(event),
        }
    }

    /// A participant dies. What it had sent is lost, or still arrives.
    fn kill(&mut self, who: NodeId, loses_sent: bool) {
        self.dead = Some(who);
        if who == COORDINATOR {
            self.machine = None;
        }
        if loses_sent {
            self.wire.retain(|message| match message {
                Message::Back { from, .. } => *from != who,
                _ => who != COORDINATOR,
            });
        }
    }

    /// Everybody comes back, but the coordinator with nothing: batches are brought about by those
    /// who keep them, dots that nobody needs are counted as seen.
    fn settle(&mut self) {
        for _ in HOLDERS {
            for batch in std::mem::take(&mut self.logs).into_values() {
                for (write, replica) in batch.writes.iter().zip(&mut self.replicas) {
                    replica.apply(write.delta.clone());
                }
                assert!(self.has_all(&batch));
            }
        }
        for (write, replica) in self.replicas.iter_mut().enumerate() {
            for dot in std::mem::take(&mut replica.reserved) {
                let asked = VnodeDot { keyspace: KeyspaceId(1), vnode: row_of(write).vnode, dot };
                let needed = self.machine.as_ref().is_some_and(|machine| machine.needs(asked));
                if !needed {
                    replica.clock.insert(dot);
                }
            }
        }
    }

    fn check(mut self, history: &[String]) {
        self.settle();
        let have = self.replicas.iter().filter(|replica| replica.shows("batch")).count();
        let why = || history.join(", ");
        assert!(have == 0 || have == 2, "half a batch: {}", why());
        match self.told {
            Some(Ok(())) => assert_eq!(have, 2, "it was acknowledged: {}", why()),
            Some(Err(false)) => assert_eq!(have, 0, "it was not applied: {}", why()),
            Some(Err(true)) | None => {}
        }
        if self.dead == Some(COORDINATOR) || self.machine.is_none_or(|machine| machine.is_done()) {
            for (at, replica) in self.replicas.iter().enumerate() {
                let base = replica.clock.base(dot(REPLICAS[at], 1).actor);
                assert_eq!(base, replica.given, "a gap: {}", why());
            }
        }
        // Overwritten, and repeated once more.
        let Some(batch) = self.seen.filter(|_| have == 2) else { return };
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            let named = &batch.writes[at].delta;
            let context = [named.entry.dot].into_iter().collect();
            let value = Some(Bytes::from_static(b"over"));
            let entry = Entry { dot: dot(NodeId(9), 1), stamp: Hlc(6), expires: None, value };
            replica.apply(Delta { entry, context });
            replica.apply(named.clone());
            assert!(replica.shows("over") && !replica.shows("batch"), "{}", why());
        }
    }
}

/// All orders of delivery, and in each, at each point, the death of each participant.
fn explore(world: &World, history: &mut Vec<String>, checked: &mut u64) {
    if world.dead.is_none() {
        for who in [COORDINATOR].into_iter().chain(HOLDERS).chain(REPLICAS) {
            for loses_sent in [true, false] {
                let mut dies = world.clone();
                dies.kill(who, loses_sent);
                history.push(format!("{who} dies, loses what it sent: {loses_sent}"));
                explore(&dies, history, checked);
                history.pop();
            }
        }
    }
    if world.wire.is_empty() {
        world.clone().check(history);
        *checked += 1;
    }
    for at in 0..world.wire.len() {
        let mut next = world.clone();
        history.push(format!("{:?}", next.wire[at]));
        next.deliver(at);
        explore(&next, history, checked);
        history.pop();
    }
}

#[test]
fn whoever_dies_whenever_all_of_it_is_written_or_nothing() {
    let mut checked = 0;
    explore(&World::begin(), &mut Vec::new(), &mut checked);
    assert!(checked > 10_000, "{checked} histories");
}

#[test]
fn the_client_is_told_once_it_is_logged_and_written() {
    let mut world = World::begin();
    let mut told_at = None;
    while !world.wire.is_empty() {
        world.deliver(0);
        if world.told.is_some() && told_at.is_none() {
            told_at = Some((world.logs.len(), world.has_all(&world.seen.clone().unwrap())));
        }
    }
    assert_eq!(told_at, Some((2, true)));
    assert_eq!(world.told, Some(Ok(())));
    assert!(world.logs.is_empty(), "it is whole, so it is forgotten");
}

#[test]
fn one_stamp_is_above_what_every_replica_promised() {
    let mut actions = Vec::new();
    let mut machine = BatchMachine::start(plan(&HOLDERS), &mut actions);
    actions.clear();
    for (write, floor) in [(0, 9), (1, 3)] {
        let from = REPLICAS[write];
        let (dot, context, not_below) = (dot(from, 1), Context::default(), Hlc(floor));
        let event = BatchEvent::Reserved { write, from, dot, context, not_below };
        machine.step(event, Millis(0), &mut actions);
    }
    let [BatchAction::Keep { batch, .. }, BatchAction::Keep { .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    let stamps: Vec<Hlc> = batch.writes.iter().map(|write| write.delta.entry.stamp).collect();
    assert_eq!(stamps, [Hlc(9), Hlc(9)]);
}

#[test]
fn a_replica_that_gives_no_dot_is_followed_by_the_next_and_its_late_answer_is_not_taken() {
    let mut plan = plan(&HOLDERS);
    plan.writes.truncate(1);
    plan.writes[0].reservers = vec![NodeId(4), NodeId(6)];
    let mut actions = Vec::new();
    let mut machine = BatchMachine::start(plan, &mut actions);
    let place = |dot| VnodeDot { keyspace: KeyspaceId(1), vnode: VnodeId(0), dot };
    let (late, taken) = (place(dot(NodeId(4), 1)), place(dot(NodeId(6), 1)));
    assert!(machine.needs(late) && !machine.needs(taken), "an answer may be under way");
    machine.step(BatchEvent::NotReserved { write: 0, from: NodeId(4) }, Millis(0), &mut actions);
    assert!(!machine.needs(late) && machine.needs(taken));
    let reserved = |from, dot| {
        let (context, not_below) = (Context::default(), Hlc::ZERO);
        BatchEvent::Reserved { write: 0, from, dot, context, not_below }
    };
    actions.clear();
    machine.step(reserved(NodeId(4), late.dot), Millis(0), &mut actions);
    assert!(actions.is_empty());
    machine.step(reserved(NodeId(6), taken.dot), Millis(0), &mut actions);
    assert!(matches!(&actions[..], [BatchAction::Keep { .. }, BatchAction::Keep { .. }]));
    assert!(machine.needs(taken));
}

#[test]
fn keepers_that_refuse_are_replaced_and_nobody_left_is_told_as_it_is() {
    let begun = |candidates: &[NodeId]| {
        let mut actions = Vec::new();
        let mut plan = plan(candidates);
        plan.copies = 2;
        let mut machine = BatchMachine::start(plan, &mut actions);
        for (write, from) in REPLICAS.into_iter().enumerate() {
            let (dot, context, not_below) = (dot(from, 1), Context::default(), Hlc::ZERO);
            let event = BatchEvent::Reserved { write, from, dot, context, not_below };
            machine.step(event, Millis(0), &mut actions);
        }
        (machine, actions)
    };
    let replied = |actions: &[BatchAction]| {
        actions.iter().find_map(|action| match action {
            BatchAction::Reply(result) => Some(result.clone()),
            _ => None,
        })
    };
    let not = |by, perhaps| BatchEvent::NotKept { by, perhaps };
    let (mut machine, mut actions) = begun(&[HOLDERS[0], HOLDERS[1], COORDINATOR]);
    machine.step(not(HOLDERS[0], false), Millis(0), &mut actions);
    assert!(matches!(actions.last(), Some(BatchAction::Keep { at: COORDINATOR, .. })));
    machine.step(not(HOLDERS[1], false), Millis(0), &mut actions);
    assert_eq!(replied(&actions), None, "the third may still keep it");
    let mut alone = (machine.clone(), actions.clone());
    machine.step(not(COORDINATOR, false), Millis(0), &mut actions);
    let none = BatchFailure::NotLogged { kept: 0, needed: 2 };
    assert_eq!(replied(&actions), Some(Err(none)));
    alone.0.step(BatchEvent::Kept { by: COORDINATOR }, Millis(0), &mut alone.1);
    assert!(replied(&alone.1).unwrap().unwrap_err().is_unknown(), "one node will bring it about");
    let (mut machine, mut actions) = begun(&HOLDERS);
    machine.step(not(HOLDERS[0], true), Millis(0), &mut actions);
    machine.step(not(HOLDERS[1], false), Millis(0), &mut actions);
    assert!(replied(&actions).unwrap().unwrap_err().is_unknown());
}

#[test]
fn the_deadline_is_an_answer_in_every_state() {
    let late = |machine: &mut BatchMachine| {
        let mut actions = Vec::new();
        machine.step(BatchEvent::TimePassed, Millis(1_000), &mut actions);
        assert!(machine.is_done() && machine.next_wakeup().is_none());
        match actions.into_iter().next() {
            Some(BatchAction::Reply(Err(failure))) => failure,
            other => panic!("{other:?}"),
        }
    };
    let mut world = World::begin();
    assert_eq!(late(&mut world.machine.clone().unwrap()), BatchFailure::Late);
    for _ in 0..4 {
        world.deliver(0);
    }
    assert!(late(&mut world.machine.clone().unwrap()).is_unknown(), "it may be kept");
    for _ in 0..4 {
        world.deliver(0);
    }
    assert!(late(world.machine.as_mut().unwrap()).is_unknown(), "it is being written");
}

#[test]
fn a_batch_is_kept_in_other_racks_where_there_are_any() {
    let cluster = Cluster::new(&[5, 1]);
    let everybody = |_| true;
    for turn in 0..10 {
        let (keepers, copies) = keepers(&cluster.topology, HOME, NodeId(1), turn, everybody);
        assert_eq!((keepers.len(), copies), (MAX_KEEPERS, 2));
        assert!(!keepers[..4].contains(&NodeId(1)), "itself last: {keepers:?}");
        assert_eq!(keepers[4], NodeId(1));
    }
    let (few, copies) = keepers(&cluster.topology, HOME, NodeId(1), 0, |node| node == NodeId(3));
    assert_eq!((few, copies), (vec![NodeId(3), NodeId(1)], 2));
    let away = cluster.topology.nodes_in(DcId(1)).next().unwrap().id;
    let alone = keepers(&cluster.topology, DcId(1), away, 0, everybody);
    assert_eq!(alone, (vec![away], 1));
}

#[test]
fn a_write_is_whole_when_its_reserver_and_a_majority_have_it() {
    let cluster = Cluster::new(&[3]);
    let named = |node| {
        let delta = crate::testing::delta(dot(node, 1), "v", Context::default());
        NamedWrite { row: row_key(), delta, write_id: None }
    };
    let whole = |reserver, have: &[u32]| {
        let have = have.iter().map(|&node| NodeId(node)).collect();
        is_whole(&named(NodeId(reserver)), cluster.replicas(), &have)
    };
    assert!(whole(1, &[1, 2]) && whole(1, &[1, 2, 3]));
    assert!(!whole(1, &[1]), "one disk may be lost");
    assert!(!whole(1, &[2, 3]), "the first would take its dot for unused");
    assert!(whole(9, &[2, 3]), "it is no replica any more");
}
