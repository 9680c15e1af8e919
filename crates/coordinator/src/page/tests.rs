//! Scans over replicas that differ, lose messages and send nonsense.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_crdt::{Context, Row};
use meridian_types::{ConsistencyLevel, KeyspaceId, NodeId, ReadClass, TableId};
use proptest::prelude::*;

use super::*;
use crate::message::{PageRow, ReadKind};
use crate::plan::ReadPlan;
use crate::testing::{Cluster, Dice, HOME, delta, dot};

/// What a replica has: which version of the row at each of a few positions.
type Rows = BTreeMap<u64, u64>;

fn position(token: u64) -> RingPosition {
    RingPosition { token, key: Bytes::copy_from_slice(&token.to_be_bytes()) }
}

fn row(token: u64, version: u64) -> Row {
    delta(dot(NodeId(1), version), &format!("{token} {version}"), Context::default()).into_row()
}

/// What a replica with these rows answers.
fn page_of(rows: &Rows, request: &PageRequest) -> PageReply {
    let wanted = |token: &u64| {
        let behind = request.after.as_ref().is_none_or(|after| position(*token) > *after);
        behind && *token <= request.until
    };
    let looked_at: Vec<_> =
        rows.iter().filter(|(token, _)| wanted(token)).take(MOST_LOOKED_AT).collect();
    let mut page = PageReply::default();
    for (&token, &version) in looked_at.iter().copied() {
        page.end = Some(position(token));
        if version != NO_MATCH {
            let row = row(token, version);
            let digest = row.digest();
            let row = (request.kind == ReadKind::Data).then_some(row);
            page.rows.push(PageRow { position: position(token), row, digest });
        }
        if page.rows.len() == request.limit {
            break;
        }
    }
    let last = rows.keys().rfind(|token| wanted(token)).map(|&token| position(token));
    page.end = page.end.filter(|end| Some(end) != last.as_ref());
    page
}

/// Rows that a replica looks at for one page.
const MOST_LOOKED_AT: usize = 4;

/// The version of rows that do not match the request.
const NO_MATCH: u64 = 0;

fn request(after: Option<RingPosition>, until: u64, limit: usize) -> PageRequest {
    PageRequest {
        keyspace: KeyspaceId(1),
        table: TableId(1),
        after,
        until,
        limit,
        prefix: Bytes::new(),
        class: ReadClass::Local,
        kind: ReadKind::Data,
        seen: Vec::new(),
    }
}

const TIMING: PageTiming = PageTiming { deadline: Millis(100), hedge_at: Some(Millis(10)) };

fn plan(cluster: &Cluster, level: ConsistencyLevel) -> ReadPlan {
    let replicas = cluster.replicas();
    ReadPlan::new(level, HOME, cluster.leader(), replicas, |_| true, |_| false, &cluster.topology)
        .unwrap()
}

/// Runs one page with answers in random order; the reply, and who answered.
fn run(
    cluster: &Cluster,
    level: ConsistencyLevel,
    stored: &BTreeMap<NodeId, Rows>,
    request: PageRequest,
    faults: usize,
    dice: &mut Dice,
) -> (Result<PageDone, Failure>, BTreeSet<NodeId>) {
    let (mut actions, mut faults, mut now) = (PageActions::new(), faults, Millis(0));
    let mut machine = PageMachine::start(&plan(cluster, level), request, TIMING, &mut actions);
    let (mut asked, mut answered, mut reply) = (Vec::new(), BTreeSet::new(), None);
    while !machine.is_done() || !actions.is_empty() {
        for action in actions.drain(..) {
            match action {
                PageAction::Read { from, request } => asked.push((from, request)),
                PageAction::Reply(result) => assert!(reply.replace(result).is_none()),
                PageAction::Done => assert!(machine.is_done() && reply.is_some()),
            }
        }
        if machine.is_done() {
            break;
        }
        let choice = dice.below(asked.len() + 1);
        let event = if choice == asked.len() {
            now = machine.next_wakeup().unwrap();
            PageEvent::TimePassed
        } else {
            let (from, request) = asked.swap_remove(choice);
            match dice.below(4) {
                fault @ 0..3 if faults > 0 => {
                    faults -= 1;
                    match fault {
                        0 => PageEvent::ReadRefused { from, refusal: Refusal::Overloaded },
                        1 => PageEvent::NodeDown { node: from },
                        _ => PageEvent::SendRefused { to: from },
                    }
                }
                _ => {
                    answered.insert(from);
                    PageEvent::PageArrived { from, page: page_of(&stored[&from], &request) }
                }
            }
        };
        machine.step(event, now, &mut actions);
    }
    assert_eq!(machine.next_wakeup(), None);
    (reply.unwrap(), answered)
}

fn stored(cluster: &Cluster, rows: &[Rows]) -> BTreeMap<NodeId, Rows> {
    cluster.replicas().all().iter().copied().zip(rows.iter().cloned()).collect()
}

fn matching(rows: &Rows, token: u64) -> Option<u64> {
    rows.get(&token).copied().filter(|&version| version != NO_MATCH)
}

fn some_rows() -> impl Strategy<Value = Rows> {
    prop::collection::btree_map(0_u64..30, NO_MATCH..3, 0..12)
}

proptest! {
    /// Page after page, every row of those that answered comes once, in order, and only rows
    /// that they agree on come without being read again.
    #[test]
    fn a_scan_finds_every_row_once(
        rows in prop::collection::vec(some_rows(), 3),
        limit in 1_usize..6,
        until in 5_u64..40,
        seed: u64,
    ) {
        let cluster = Cluster::new(&[3]);
        let stored = stored(&cluster, &rows);
        let mut dice = Dice(seed);
        let (mut after, mut found) = (None, Vec::<u64>::new());
        loop {
            let request = request(after.clone(), until, limit);
            let level = ConsistencyLevel::Quorum;
            let (reply, answered) = run(&cluster, level, &stored, request, 0, &mut dice);
            // The deadline may have passed; a client then asks for the same page again.
            let Ok(done) = reply else { continue };
            prop_assert!(done.items.len() <= limit);
            let tokens: Vec<u64> = done.items.iter().map(|item| item.position().token).collect();
            let end = done.next.as_ref().map_or(until, |next| next.token);
            let start = after.as_ref().map_or(0, |after: &RingPosition| after.token + 1);
            let expected: BTreeSet<u64> = answered
                .iter()
                .flat_map(|node| &stored[node])
                .filter(|(_, version)| **version != NO_MATCH)
                .map(|(&token, _)| token)
                .filter(|token| (start..=end.min(until)).contains(token))
                .collect();
            prop_assert_eq!(&tokens, &expected.into_iter().collect::<Vec<_>>());
            for item in &done.items {
                let token = item.position().token;
                let versions: BTreeSet<_> =
                    answered.iter().map(|node| matching(&stored[node], token)).collect();
                match item {
                    PageItem::Agreed(_, found) => {
                        let version = versions.first().unwrap().unwrap();
                        prop_assert_eq!(versions.len(), 1);
                        prop_assert_eq!(found, &row(token, version));
                    }
                    PageItem::Differs(_) => prop_assert!(versions.len() > 1),
                }
            }
            found.extend(tokens);
            prop_assert!(done.next > after || done.next.is_none());
            after = done.next;
            if after.is_none() {
                break;
            }
        }
        prop_assert!(found.is_sorted_by(|a, b| a < b));
        // A row that a majority has is on some answer of every page.
        for token in (0..30).filter(|token| *token <= until) {
            if rows.iter().filter(|rows| matching(rows, token).is_some()).count() >= 2 {
                prop_assert!(found.contains(&token), "{} is missing", token);
            }
        }
    }

    #[test]
    fn a_page_is_answered_whatever_fails(
        rows in prop::collection::vec(some_rows(), 6),
        level in prop::sample::select(vec![
            ConsistencyLevel::One,
            ConsistencyLevel::LocalQuorum,
            ConsistencyLevel::Quorum,
            ConsistencyLevel::EachQuorum,
            ConsistencyLevel::All,
        ]),
        faults in 0_usize..5,
        seed: u64,
    ) {
        let cluster = Cluster::new(&[3, 3]);
        let stored = stored(&cluster, &rows);
        let request = request(None, u64::MAX, 5);
        let (reply, answered) =
            run(&cluster, level, &stored, request, faults, &mut Dice(seed));
        if reply.is_ok() {
            prop_assert!(cluster.is_enough(level, &answered));
        }
    }

    /// A page may claim anything: it is merged, or its sender counts as failed.
    #[test]
    fn no_page_breaks_the_machine(
        tokens in prop::collection::vec((0_u64..6, any::<bool>()), 0..6),
        end in prop::option::of(0_u64..6),
        digest: bool,
    ) {
        let cluster = Cluster::new(&[3]);
        let mut actions = PageActions::new();
        let level = if digest { ConsistencyLevel::Quorum } else { ConsistencyLevel::One };
        let ask = request(Some(position(1)), 4, 4);
        let mut machine =
            PageMachine::start(&plan(&cluster, level), ask, TIMING, &mut actions);
        let rows = tokens.iter().map(|&(token, with_row)| PageRow {
            position: position(token),
            row: with_row.then(|| row(token, 1)),
            digest: 7,
        });
        let page = PageReply { rows: rows.collect(), end: end.map(position) };
        let from = cluster.leader();
        machine.step(PageEvent::PageArrived { from, page }, Millis(1), &mut actions);
        machine.step(PageEvent::TimePassed, TIMING.deadline, &mut actions);
        let replies = actions.iter().filter(|action| matches!(action, PageAction::Reply(_)));
        prop_assert_eq!(replies.count(), 1);
        let sound = tokens.is_sorted_by(|a, b| a.0 < b.0)
            && tokens.iter().all(|&(token, with_row)| (2..=4).contains(&token) && with_row)
            && end.is_none_or(|end| {
                (2..=4).contains(&end) && tokens.iter().all(|&(token, _)| token <= end)
            });
        let asked = actions.iter().filter(|action| matches!(action, PageAction::Read { .. }));
        let contacts = if digest { 2 } else { 1 };
        // A sender that counts as failed is replaced at once; one more is asked as a hedge.
        prop_assert_eq!(asked.count() > contacts, !sound || digest);
    }
}

#[test]
fn a_page_ends_where_some_answer_ends() {
    let cluster = Cluster::new(&[3]);
    // The first and last have many rows near the beginning, the second few and far.
    let near: Rows = (0..10).map(|token| (token, 1)).collect();
    let far: Rows = [(3, 1), (20, 1), (21, 1)].into();
    let stored = stored(&cluster, &[near.clone(), far, near]);
    let request = request(None, u64::MAX, 3);
    let (reply, answered) = run(&cluster, ConsistencyLevel::All, &stored, request, 0, &mut Dice(3));
    let done = reply.unwrap();
    assert_eq!((done.items.len(), answered.len()), (3, 3));
    assert_eq!(done.next, Some(position(2)));
}
