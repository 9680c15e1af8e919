//! Sessions between real rows and clocks: interrupted, while the peer goes on writing, in full.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use meridian_crdt::{Actor, ConflictPolicy, Context, Delta, Dot, Entry, Row};
use meridian_types::{Hlc, Incarnation, NodeId, TableId, VnodeKind};
use proptest::prelude::*;

use super::*;

const POLICY: ConflictPolicy = ConflictPolicy::Siblings;

/// A replica of one vnode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Replica {
    rows: BTreeMap<u8, Row>,
    clock: VnodeClock,
}

fn position(key: u8) -> PullPosition {
    PullPosition { table: TableId(1), at: Bytes::copy_from_slice(&[key]) }
}

impl Replica {
    fn apply(&mut self, key: u8, delta: &Delta) {
        if self.clock.insert(delta.entry.dot) {
            let row = self.rows.entry(key).or_default();
            row.apply(POLICY, delta.clone());
            row.strip(&self.clock);
        }
    }

    fn write(&mut self, node: u32, key: u8, seen: bool) -> Delta {
        let actor = Actor { node: NodeId(node), incarnation: Incarnation(1) };
        let dot = Dot::new(actor, self.clock.highest(actor) + 1);
        let row = self.rows.get(&key).cloned().unwrap_or_default();
        let context = if seen { row.reader_context(&self.clock) } else { Context::default() };
        let value = Some(Bytes::from(format!("{dot}")));
        let delta = Delta { entry: Entry { dot, stamp: Hlc(0), expires: None, value }, context };
        self.apply(key, &delta);
        delta
    }

    /// A page as the store makes it: what is news to the puller, a row a page.
    fn page(&self, request: &PullRequest) -> PullPage {
        let start = request.after.as_ref().map_or(Bound::Unbounded, |at| Bound::Excluded(at.at[0]));
        let wanted = |row: &Row| request.full && !row.is_empty() || row.is_news_to(&request.clock);
        let mut rows = self.rows.range((start, Bound::Unbounded)).filter(|(_, row)| wanted(row));
        let Some((&key, row)) = rows.next() else {
            return PullPage { clock: self.clock.clone(), ..PullPage::default() };
        };
        let pulled =
            PulledRow { table: TableId(1), key: Bytes::copy_from_slice(&[key]), row: row.clone() };
        let next = rows.next().is_some().then(|| position(key));
        let standing = PeerStanding::SOUND;
        PullPage { clock: self.clock.clone(), standing, rows: vec![pulled], next }
    }

    fn join(&mut self, rows: Vec<PulledRow>, coverage: &VnodeClock, sweep: Option<Sweep>) {
        let mut named = BTreeSet::new();
        for PulledRow { key, row, .. } in rows {
            named.insert(key[0]);
            self.join_row(key[0], &row, coverage);
        }
        let Some(Sweep { after, until }) = sweep else { return };
        let absent = |key: &u8| {
            let here = Some(position(*key));
            !named.contains(key) && here > after && (until.is_none() || here <= until)
        };
        for key in self.rows.keys().copied().filter(absent).collect::<Vec<_>>() {
            self.join_row(key, &Row::default(), coverage);
        }
    }

    fn join_row(&mut self, key: u8, row: &Row, coverage: &VnodeClock) {
        let theirs = row.full_context(coverage);
        let mine = self.rows.entry(key).or_default();
        mine.join_answer(POLICY, &mut self.clock, row, &theirs);
    }

    fn join_clock(&mut self, clock: &VnodeClock, own_entries: bool) {
        if own_entries {
            for entry in self.rows.values().flat_map(Row::entries) {
                self.clock.insert(entry.dot);
            }
        }
        self.clock.join(clock);
        for row in self.rows.values_mut() {
            row.strip(&self.clock);
        }
    }

    /// The dots that a reader sees, by key.
    fn shown(&self) -> BTreeMap<u8, Vec<Dot>> {
        let shown = self.rows.iter().map(|(&key, row)| {
            (key, row.entries().iter().map(|entry| entry.dot).collect::<Vec<_>>())
        });
        shown.filter(|(_, dots)| !dots.is_empty()).collect()
    }
}

fn options(kind: PullKind) -> PullOptions {
    let (keyspace, vnode) = (KeyspaceId(1), VnodeId(0));
    PullOptions { keyspace, vnode, kind, page_bytes: 1, page_timeout_ms: 50 }
}

/// Runs a session between two of the replicas. After each page `between` may change them; the
/// session breaks off after `pages`, if given.
fn pull(
    replicas: &mut [Replica],
    (puller, peer): (usize, usize),
    kind: PullKind,
    pages: Option<u32>,
    mut between: impl FnMut(&mut [Replica], u32),
) -> Result<Pulled, PullError> {
    let mut actions = Vec::new();
    let own = replicas[puller].clock.clone();
    let mut session = PullSession::start(options(kind), own, Millis(0), &mut actions);
    let mut sent = 0;
    loop {
        let action = actions.remove(0);
        let event = match action {
            PullAction::Request(_) if pages == Some(sent) => PullEvent::PeerDown,
            PullAction::Request(request) => {
                let page = replicas[peer].page(&request);
                sent += 1;
                between(replicas, sent);
                PullEvent::PageArrived(page)
            }
            PullAction::Join { rows, coverage, sweep } => {
                replicas[puller].join(rows, &coverage, sweep);
                PullEvent::Joined
            }
            PullAction::JoinClock { clock, own_entries, standing: _ } => {
                replicas[puller].join_clock(&clock, own_entries);
                PullEvent::Joined
            }
            PullAction::Ended(result) => {
                assert!(session.is_over() && actions.is_empty());
                return result;
            }
        };
        session.step(event, Millis(0), &mut actions);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { at: usize, key: u8, seen: bool, reaches: u8 },
    Pull { puller: usize, peer: usize, pages: Option<u32>, write_between: Option<(u32, u8, bool)> },
}

fn some_step() -> impl Strategy<Value = Step> {
    let write = (0..3_usize, 0..4_u8, any::<bool>(), 0..8_u8)
        .prop_map(|(at, key, seen, reaches)| Step::Write { at, key, seen, reaches });
    let write_between = prop::option::of((1..4_u32, 0..4_u8, any::<bool>()));
    let pull = (0..3_usize, 0..3_usize, prop::option::of(0..3_u32), write_between)
        .prop_filter("two replicas", |(a, b, ..)| a != b)
        .prop_map(|(puller, peer, pages, write_between)| Step::Pull {
            puller,
            peer,
            pages,
            write_between,
        });
    prop_oneof![2 => write, 1 => pull]
}

fn node(at: usize) -> u32 {
    u32::try_from(at).unwrap()
}

/// What every replica shows once all have everything: what no write has seen.
fn oracle(writes: &[(u8, Delta)]) -> BTreeMap<u8, Vec<Dot>> {
    let mut shown = BTreeMap::<u8, Vec<Dot>>::new();
    for (key, write) in writes {
        let dot = write.entry.dot;
        if !writes.iter().any(|(other, later)| other == key && later.context.contains(dot)) {
            shown.entry(*key).or_default().push(dot);
        }
    }
    for dots in shown.values_mut() {
        dots.sort_unstable();
    }
    shown
}

fn check_equal_clocks(replicas: &[Replica]) -> Result<(), TestCaseError> {
    for a in replicas {
        for b in replicas.iter().filter(|b| a.clock == b.clock) {
            prop_assert_eq!(a.shown(), b.shown(), "equal clocks, different rows");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn pulls_bring_everything_and_never_claim_more(
        steps in prop::collection::vec(some_step(), 1..25),
    ) {
        let mut replicas = vec![Replica::default(); 3];
        let mut writes = Vec::new();
        for step in steps {
            match step {
                Step::Write { at, key, seen, reaches } => {
                    let delta = replicas[at].write(node(at), key, seen);
                    for (_, other) in (0..3).zip(&mut replicas).filter(|(o, _)| reaches >> o & 1 == 1) {
                        other.apply(key, &delta);
                    }
                    writes.push((key, delta));
                }
                Step::Pull { puller, peer, pages, write_between } => {
                    let ended = pull(
                        &mut replicas,
                        (puller, peer),
                        PullKind::Missing,
                        pages,
                        |replicas, page| {
                            if let Some((_, key, seen)) = write_between.filter(|w| w.0 == page) {
                                writes.push((key, replicas[peer].write(node(peer), key, seen)));
                            }
                        },
                    );
                    let whole = pages.is_none();
                    prop_assert!(ended.is_ok() || !whole, "{:?}", ended);
                    if whole && write_between.is_none() {
                        prop_assert!(replicas[peer].clock.is_covered_by(&replicas[puller].clock));
                    }
                }
            }
            check_equal_clocks(&replicas)?;
        }
        for _ in 0..2 {
            for pair in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
                let ended = pull(&mut replicas, pair, PullKind::Missing, None, |_, _| {});
                prop_assert!(ended.is_ok());
            }
        }
        for replica in &replicas {
            prop_assert_eq!(replica.shown(), oracle(&writes));
        }
    }

    /// A replica that lost tables, and with them the proof of its clock, is whole again after a
    /// full pull from a peer that has everything.
    #[test]
    fn a_full_pull_rebuilds(
        writes in prop::collection::vec((0..2_usize, 0..6_u8, any::<bool>()), 1..20),
        old in 0..20_usize,
        kept: u8,
        collected: u8,
    ) {
        let mut replicas = vec![Replica::default(); 2];
        let mut restored = BTreeMap::new();
        for (number, (at, key, seen)) in writes.into_iter().enumerate() {
            if number == old {
                restored = replicas[0].rows.clone();
            }
            let delta = replicas[at].write(node(at), key, seen);
            replicas[1 - at].apply(key, &delta);
        }
        // Deleted, and the markers collected: only the clock remembers them.
        replicas[1].rows.retain(|key, _| collected >> key & 1 == 0);
        // Older versions of some rows come to light, others are gone.
        restored.retain(|key, _| kept >> key & 1 == 1);
        replicas[0] = Replica { rows: restored, clock: VnodeClock::default() };
        let ended = pull(&mut replicas, (0, 1), PullKind::Full, None, |_, _| {});
        prop_assert!(ended.is_ok());
        prop_assert_eq!(replicas[0].shown(), replicas[1].shown());
        prop_assert!(replicas[1].clock.is_covered_by(&replicas[0].clock));
    }
}

fn request_of(actions: &[PullAction]) -> &PullRequest {
    let [PullAction::Request(request)] = actions else { panic!("{actions:?}") };
    request
}

fn start() -> (PullSession, Vec<PullAction>) {
    let mut actions = Vec::new();
    let own = VnodeClock::default();
    (PullSession::start(options(PullKind::Missing), own, Millis(100), &mut actions), actions)
}

fn page(next: Option<u8>) -> PullPage {
    let mut replica = Replica::default();
    replica.write(1, next.unwrap_or(9), false);
    let request = PullRequest {
        keyspace: KeyspaceId(1),
        vnode: VnodeId(0),
        clock: VnodeClock::default(),
        after: None,
        full: false,
        max_bytes: 1,
    };
    PullPage { next: next.map(position), ..replica.page(&request) }
}

#[test]
fn a_silent_peer_ends_the_session_in_time_and_joins_no_clock() {
    let (mut session, mut actions) = start();
    assert_eq!(request_of(&actions).after, None);
    actions.clear();
    assert_eq!(session.next_wakeup(), Some(Millis(150)));
    session.step(PullEvent::TimePassed, Millis(149), &mut actions);
    assert!(actions.is_empty());
    session.step(PullEvent::TimePassed, Millis(150), &mut actions);
    let error = PullError::Timeout { page: 1, timeout_ms: 50 };
    assert_eq!(actions, [PullAction::Ended(Err(error))]);
    session.step(PullEvent::PageArrived(page(None)), Millis(151), &mut actions);
    assert_eq!((actions.len(), session.next_wakeup()), (1, None));
}

#[test]
fn each_page_has_its_own_time_and_joining_has_none() {
    let (mut session, mut actions) = start();
    actions.clear();
    session.step(PullEvent::PageArrived(page(Some(3))), Millis(140), &mut actions);
    assert!(matches!(actions[..], [PullAction::Join { .. }]));
    assert_eq!(session.next_wakeup(), None);
    actions.clear();
    session.step(PullEvent::Joined, Millis(500), &mut actions);
    assert_eq!(request_of(&actions).after, Some(position(3)));
    assert_eq!(session.next_wakeup(), Some(Millis(550)));
}

#[test]
fn a_peer_whose_pages_do_not_go_on_is_given_up() {
    let (mut session, mut actions) = start();
    session.step(PullEvent::PageArrived(page(Some(3))), Millis(100), &mut actions);
    session.step(PullEvent::Joined, Millis(100), &mut actions);
    actions.clear();
    session.step(PullEvent::PageArrived(page(Some(3))), Millis(100), &mut actions);
    assert_eq!(actions, [PullAction::Ended(Err(PullError::NoProgress { page: 2 }))]);
}

#[test]
fn what_breaks_off_joins_no_clock() {
    for event in [
        PullEvent::Refused("rebuilding".into()),
        PullEvent::PeerDown,
        PullEvent::JoinFailed("disk".into()),
    ] {
        let (mut session, mut actions) = start();
        session.step(PullEvent::PageArrived(page(Some(3))), Millis(100), &mut actions);
        if !matches!(event, PullEvent::JoinFailed(_)) {
            session.step(PullEvent::Joined, Millis(100), &mut actions);
        }
        actions.clear();
        session.step(event, Millis(100), &mut actions);
        assert!(matches!(actions[..], [PullAction::Ended(Err(_))]), "{actions:?}");
    }
}

#[test]
fn a_pull_that_brings_nothing_says_what_its_peer_could_prove_all_the_same() {
    let (mut session, mut actions) = start();
    actions.clear();
    let standing = PeerStanding { loss: Incarnation(7), ..PeerStanding::SOUND };
    let page = PullPage { standing, ..PullPage::default() };
    session.step(PullEvent::PageArrived(page), Millis(100), &mut actions);
    let clock = VnodeClock::default();
    assert_eq!(actions, [PullAction::JoinClock { clock, standing, own_entries: false }]);
    actions.clear();
    session.step(PullEvent::Joined, Millis(100), &mut actions);
    assert_eq!(actions, [PullAction::Ended(Ok(Pulled { pages: 1, rows: 0 }))]);
}

#[test]
fn what_a_peer_could_prove_is_that_of_the_first_page() {
    let (mut session, mut actions) = start();
    let standing = PeerStanding { kind: VnodeKind::Suspect, ..PeerStanding::SOUND };
    for (standing, next) in [(standing, Some(1)), (PeerStanding::SOUND, None)] {
        let page = PullPage { standing, rows: Vec::new(), ..page(next) };
        session.step(PullEvent::PageArrived(page), Millis(100), &mut actions);
    }
    let told = actions.iter().find_map(|action| match action {
        PullAction::JoinClock { standing, .. } => Some(*standing),
        _ => None,
    });
    assert_eq!(told, Some(standing));
}
