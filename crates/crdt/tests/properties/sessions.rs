//! A session asks for what it has seen, whatever was forgotten meanwhile; its token is accepted
//! exactly as it was given.

use std::collections::{BTreeMap, BTreeSet};

use meridian_crdt::{
    Context, DecodeError, Demand, Dot, Session, SessionLimits, SessionToken, SessionTokenError,
    TokenKey, VnodeClock,
};
use meridian_types::{KeyspaceId, VnodeId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::draw::dot;

const KEYSPACE: KeyspaceId = KeyspaceId(1);

fn key() -> TokenKey {
    TokenKey::derive(b"the cluster's secret")
}

/// What was shown of which vnode, in order.
fn shown() -> impl Strategy<Value = Vec<(u32, u32, u64)>> {
    vec((0..40u32, 1..4u32, 1..60u64), 0..120)
}

fn note(session: &mut Session, vnode: u32, dots: impl IntoIterator<Item = Dot>) {
    session.note(KEYSPACE, VnodeId(vnode), dots, None);
}

fn session_of(shown: &[(u32, u32, u64)]) -> Session {
    let mut session = Session::default();
    for &(vnode, node, counter) in shown {
        note(&mut session, vnode, [dot(node, counter)]);
    }
    session
}

/// Whether a replica with this clock, and no other, may answer.
fn meets(session: &Session, vnode: u32, clock: &VnodeClock) -> bool {
    match session.demand(KEYSPACE, VnodeId(vnode)) {
        Demand::Nothing => true,
        Demand::Dots(seen) => clock.has_all(seen),
        Demand::Everything => false,
    }
}

proptest! {
    #[test]
    fn nobody_answers_who_lacks_what_was_seen(
        shown in shown(), vnodes in 0..8usize, bytes in 300..900usize, every in 1..9usize,
    ) {
        let limits = SessionLimits { vnodes, bytes };
        let mut session = Session::default();
        let mut seen: BTreeMap<u32, BTreeSet<Dot>> = BTreeMap::new();
        for (n, &(vnode, node, counter)) in shown.iter().enumerate() {
            note(&mut session, vnode, [dot(node, counter)]);
            seen.entry(vnode).or_default().insert(dot(node, counter));
            if n % every == 0 {
                session.trim(limits);
                let token = SessionToken::seal(&key(), &session);
                prop_assert!(token.as_bytes().len() <= limits.bytes && session.len() <= vnodes);
                session = SessionToken::open(&key(), token.as_bytes()).unwrap();
            }
        }
        for (vnode, dots) in &seen {
            for missing in dots {
                let mut clock = VnodeClock::default();
                dots.iter().filter(|dot| *dot != missing).for_each(|dot| { clock.insert(*dot); });
                prop_assert!(!meets(&session, *vnode, &clock), "{vnode} lacks {missing}");
            }
        }
    }

    #[test]
    fn branches_that_are_joined_ask_for_what_each_asks_for(
        one in shown(), other in shown(), vnodes in 0..8usize,
    ) {
        let limits = SessionLimits { vnodes, ..SessionLimits::default() };
        let (mut left, mut right) = (session_of(&one), session_of(&other));
        left.trim(limits);
        right.trim(limits);
        let mut joined = left.clone();
        joined.join(&right);
        for vnode in 0..40 {
            let mut clock = VnodeClock::default();
            if let Demand::Dots(seen) = joined.demand(KEYSPACE, VnodeId(vnode)) {
                for (actor, counters) in seen.dots().actors() {
                    for (low, high) in counters.ranges() {
                        (low..=high).for_each(|n| { clock.insert(Dot::new(actor, n)); });
                    }
                }
            }
            let met = meets(&joined, vnode, &clock);
            prop_assert!(!met || meets(&left, vnode, &clock) && meets(&right, vnode, &clock));
        }
        let mut turned = right.clone();
        turned.join(&left);
        prop_assert_eq!(turned.len(), joined.len());
    }

    #[test]
    fn a_session_opens_to_what_was_sealed_and_nothing_else_opens(
        shown in shown(), vnodes in 0..8usize, secret in vec(any::<u8>(), 0..20),
    ) {
        let key = TokenKey::derive(&secret);
        let mut session = session_of(&shown);
        session.trim(SessionLimits { vnodes, ..SessionLimits::default() });
        let token = SessionToken::seal(&key, &session).into_bytes();
        let opened = SessionToken::open(&key, &token);
        prop_assert_eq!(opened.as_ref(), Ok(&session));
        for at in (0..token.len()).step_by(3) {
            let mut flipped = token.clone();
            flipped[at] ^= 1 << (at % 8);
            prop_assert!(SessionToken::open(&key, &flipped).is_err());
            prop_assert!(SessionToken::open(&key, &token[..at]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_session(mut bytes in vec(any::<u8>(), 0..80)) {
        prop_assert!(SessionToken::open(&key(), &bytes).is_err());
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        prop_assert!(SessionToken::open(&key(), &bytes).is_err());
    }
}

#[test]
fn a_token_of_a_later_version_or_of_a_context_says_so() {
    let mut token = SessionToken::seal(&key(), &session_of(&[(1, 1, 1)])).into_bytes();
    token[0] = 2;
    let what = "session";
    let later = DecodeError::UnknownVersion { what, version: 2 };
    assert_eq!(SessionToken::open(&key(), &token), Err(SessionTokenError::Malformed(later)));
    let scope = meridian_crdt::TokenScope { table: meridian_types::TableId(7), key: b"a key" };
    let context = meridian_crdt::ContextToken::seal(&key(), scope, &Context::default());
    assert_eq!(SessionToken::open(&key(), context.as_bytes()), Err(SessionTokenError::Forged));
}

/// What a session saw of a forgotten vnode is not all in the list when the vnode is back.
#[test]
fn a_vnode_that_was_forgotten_stays_in_doubt() {
    let mut session = session_of(&[(1, 1, 1), (2, 1, 1)]);
    session.trim(SessionLimits { vnodes: 1, ..SessionLimits::default() });
    assert_eq!(session.demand(KEYSPACE, VnodeId(1)), Demand::Everything);
    note(&mut session, 1, [dot(1, 5)]);
    assert_eq!(session.demand(KEYSPACE, VnodeId(1)), Demand::Everything);
    let two: Context = [dot(1, 1)].into_iter().collect();
    assert_eq!(session.demand(KEYSPACE, VnodeId(2)), Demand::Dots(&two));
    assert_eq!(session.demand(KEYSPACE, VnodeId(3)), Demand::Nothing);
    assert!(session.is_folded());
}

/// A thousand rows of a vnode take no more room than one, once somebody is known to have them all.
#[test]
fn scattered_dots_become_a_range_that_exists() {
    let known: Context = (1..=3_000).map(|n| dot(1, n)).chain([dot(2, 9)]).collect();
    let mut session = Session::default();
    let scattered = (1..1_000).map(|n| dot(1, 2 * n)).chain([dot(2, 9)]);
    session.note(KEYSPACE, VnodeId(1), scattered, Some(&known));
    let Demand::Dots(seen) = session.demand(KEYSPACE, VnodeId(1)) else { panic!() };
    assert!(seen.contains(dot(1, 1_998)) && !seen.contains(dot(1, 1_999)));
    assert!(SessionToken::seal(&key(), &session).as_bytes().len() < 64);
    // Nobody is known to have what lies between these.
    let mut session = Session::default();
    session.note(KEYSPACE, VnodeId(1), (1..9).map(|n| dot(3, 2 * n)), Some(&known));
    let Demand::Dots(seen) = session.demand(KEYSPACE, VnodeId(1)) else { panic!() };
    assert!(!seen.contains(dot(3, 3)));
}
