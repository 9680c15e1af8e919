use meridian_types::ConsistencyLevel as L;

use super::*;
use crate::history::testing::{History, PUT, SIBLINGS, context, dot, setting};
use crate::history::{SyncPromise, WriteKind};

#[test]
fn what_a_write_covers_is_what_its_token_says() {
    let mut history = History::of(SIBLINGS);
    let (one, two, three) = (dot(1, 1), dot(1, 2), dot(2, 1));
    history.wrote(1, PUT, one, &[]);
    history.wrote(2, PUT, two, &[one]);
    history.wrote(3, PUT, three, &[]);
    let end = history.end(&[one, two, three], &[(2, two), (3, three)]);
    let oracle = history.oracle(&end);
    let until = history.now();
    assert_eq!(oracle.covered(SIBLINGS, one, until), (Sure::Yes, Some(WriteName(2))));
    assert_eq!(oracle.covered(SIBLINGS, two, until).0, Sure::No);
    assert_eq!(oracle.covered(SIBLINGS, one, Micros::ZERO).0, Sure::No);
    assert!(oracle.is_alive(SIBLINGS, one));
    assert!(!oracle.is_alive(SIBLINGS, dot(3, 1)));
}

#[test]
fn a_write_whose_dot_nobody_saw_may_cover_what_its_token_says() {
    let mut history = History::of(SIBLINGS);
    history.wrote(1, PUT, dot(1, 1), &[]);
    let token = context(&[dot(1, 1)]);
    let _ = history.write(2, L::One, PUT, Some(token));
    let oracle = history.oracle(&Final::default());
    assert_eq!(oracle.covered(SIBLINGS, dot(1, 1), history.now()).0, Sure::Maybe);
    let mut blind = History::of(SIBLINGS);
    blind.wrote(1, PUT, dot(1, 1), &[]);
    let refused = blind.write(2, L::One, WriteKind::Delete, None);
    let oracle = blind.oracle(&Final::default());
    assert_eq!(oracle.covered(SIBLINGS, dot(1, 1), blind.now()).0, Sure::Maybe);
    let answer = crate::history::testing::failed(Effect::NotApplied);
    blind.tell(What::Returned { attempt: refused, answer });
    let oracle = blind.oracle(&Final::default());
    assert_eq!(oracle.covered(SIBLINGS, dot(1, 1), blind.now()).0, Sure::No);
}

#[test]
fn a_dot_that_names_two_writes_is_told() {
    let mut history = History::of(SIBLINGS);
    history.wrote(1, PUT, dot(1, 1), &[]);
    history.wrote(1, PUT, dot(1, 1), &[]);
    assert_eq!(history.oracle(&Final::default()).reused().len(), 0);
    history.wrote(2, PUT, dot(1, 1), &[]);
    assert_eq!(history.oracle(&Final::default()).reused().len(), 1);
}

#[test]
fn a_crash_may_take_back_what_is_young_and_nothing_that_was_synced() {
    let mut history = History::of(SIBLINGS);
    history.wrote(1, PUT, dot(1, 1), &[]);
    history.lost(2, LossCause::Crash, &[dot(1, 1)]);
    let permitted = |history: &History| {
        let oracle = history.oracle(&Final::default());
        oracle.losses().iter().all(|loss| oracle.is_permitted(loss, SIBLINGS, dot(1, 1)))
    };
    assert!(!permitted(&history));
    history.setting = setting(SyncPromise::Within(Micros::from_millis(100)));
    assert!(permitted(&history));
    history.setting = setting(SyncPromise::Within(Micros(1)));
    assert!(!permitted(&history));
}

#[test]
fn a_node_that_got_back_what_it_had_lost_is_held_to_what_it_told_since() {
    let mut history = History::of(SIBLINGS);
    history.setting = setting(SyncPromise::Within(Micros::from_millis(5)));
    history.wrote(1, PUT, dot(1, 1), &[]);
    history.lost(2, LossCause::Crash, &[dot(1, 1)]);
    for _ in 0..10 {
        history.read(L::One, &[], None);
    }
    let permitted = |history: &History| {
        let oracle = history.oracle(&Final::default());
        oracle.losses().iter().all(|loss| oracle.is_permitted(loss, SIBLINGS, dot(1, 1)))
    };
    let mut again = History::of(SIBLINGS);
    (again.setting, again.told) = (Arc::clone(&history.setting), history.told.clone());
    again.acked(2, dot(1, 1));
    again.lost(2, LossCause::Crash, &[dot(1, 1)]);
    assert!(permitted(&again), "it is young again");
    history.acked(2, dot(1, 1));
    for _ in 0..10 {
        history.read(L::One, &[], None);
    }
    history.lost(2, LossCause::Crash, &[dot(1, 1)]);
    assert!(!permitted(&history));
}

#[test]
fn a_quorum_write_may_be_lost_when_a_quorum_has_lost_it() {
    let mut history = History::of(SIBLINGS);
    history.wrote(1, PUT, dot(1, 1), &[]);
    history.lost(1, LossCause::Wipe, &[dot(1, 1)]);
    let lapsed = |history: &History| {
        let oracle = history.oracle(&Final::default());
        oracle.write(WriteName(1)).is_some_and(|write| oracle.write_may_be_lost(write))
    };
    assert!(!lapsed(&history));
    history.lost(2, LossCause::Wipe, &[dot(1, 1)]);
    assert!(lapsed(&history));
}
