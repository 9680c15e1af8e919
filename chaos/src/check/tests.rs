use meridian_service::Effect;
use meridian_types::{ConsistencyLevel as L, Hlc, NodeId};

use super::*;
use crate::history::testing::{History, LWW, PUT, SIBLINGS, dot, failed, setting};
use crate::history::{
    Answer, Ask, Backlog, HintTally, LossCause, ReplicaState, Sample, SessionId, SyncPromise, What,
    WriteAnswer, WriteAsk, WriteKind,
};

const DELETE: WriteKind = WriteKind::Delete;

/// What the invariants of this name say.
fn judge(name: &str, history: &History, end: &Final) -> Result<Report, &'static str> {
    let mut checks = Checks::new(Arc::clone(&history.setting), |one| one == name);
    for observation in &history.told {
        checks.observe(observation);
    }
    let mut all = Report::default();
    for (_, report) in checks.finish(end) {
        let report = report.map_err(|violation| {
            assert!(violation.to_string().starts_with(name));
            violation.property
        })?;
        all.checked += report.checked;
        all.excused.extend(report.excused);
    }
    Ok(all)
}

fn holds(name: &str, history: &History, end: &Final) {
    let report = judge(name, history, end).expect("holds");
    assert!(report.checked > 0 && report.excused.is_empty(), "{report:?}");
}

/// One put, overwritten by another.
fn overwritten(key: Key) -> History {
    let mut history = History::of(key);
    history.wrote(1, PUT, dot(1, 1), &[]);
    history.wrote(2, PUT, dot(1, 2), &[dot(1, 1)]);
    history
}

#[test]
fn an_acknowledged_write_is_kept() {
    let history = overwritten(SIBLINGS);
    let all = [dot(1, 1), dot(1, 2)];
    holds("acknowledged", &history, &history.end(&all, &[(2, all[1])]));
    let lost = history.end(&all[..1], &[(1, all[0])]);
    assert_eq!(judge("acknowledged", &history, &lost), Err("an acknowledged write is kept"));
}

#[test]
fn a_crash_that_takes_back_what_was_synced_is_found_though_others_have_it() {
    let mut history = overwritten(SIBLINGS);
    history.lost(2, LossCause::Crash, &[dot(1, 2)]);
    let end = history.end(&[dot(1, 1), dot(1, 2)], &[(2, dot(1, 2))]);
    let property = "a crash takes back nothing that was told and synced";
    assert_eq!(judge("acknowledged", &history, &end), Err(property));
    history.setting = setting(SyncPromise::Within(Micros::from_secs(1)));
    holds("acknowledged", &history, &end);
}

#[test]
fn what_all_holders_lost_is_excused_and_counted() {
    let mut history = overwritten(SIBLINGS);
    history.lost(1, LossCause::Wipe, &[dot(1, 2)]);
    history.lost(2, LossCause::Restore, &[dot(1, 2)]);
    let end = history.end(&[dot(1, 1)], &[(1, dot(1, 1))]);
    let report = judge("acknowledged", &history, &end).expect("excused");
    assert_eq!(report.excused, BTreeMap::from([("all that had it lost it", 1)]));
}

#[test]
fn replicas_are_equal_in_the_end() {
    let history = overwritten(SIBLINGS);
    let all = [dot(1, 1), dot(1, 2)];
    let mut end = history.end(&all, &[(2, all[1])]);
    holds("convergence", &history, &end);
    let old: ReplicaState = history.replica(&all[..1], &[(1, all[0])]);
    end.replicas.insert(NodeId(3), old.clone());
    let property = "all sound replicas are equal in the end";
    assert_eq!(judge("convergence", &history, &end), Err(property));
    end.replicas.insert(NodeId(3), ReplicaState { sound: false, ..old });
    holds("convergence", &history, &end);
}

#[test]
fn equal_clocks_mean_equal_rows_at_every_sample() {
    let mut history = overwritten(SIBLINGS);
    let all = [dot(1, 1), dot(1, 2)];
    let place = (crate::history::testing::KEYSPACE, crate::history::testing::VNODE);
    let sample = |history: &History, other| {
        let replicas =
            BTreeMap::from([(NodeId(1), history.vnode(&all, &[(2, all[1])])), (NodeId(2), other)]);
        let wall = meridian_types::Millis(1);
        What::Sampled(Sample { wall, vnodes: BTreeMap::from([(place, replicas)]) })
    };
    let behind = sample(&history, history.vnode(&all[..1], &[(1, all[0])]));
    history.tell(behind);
    let end = history.end(&all, &[(2, all[1])]);
    holds("convergence", &history, &end);
    let torn = sample(&history, history.vnode(&all, &[(1, all[0])]));
    history.tell(torn);
    assert_eq!(judge("convergence", &history, &end), Err("equal clocks mean equal rows"));
}

#[test]
fn siblings_are_neither_lost_nor_false() {
    let mut history = overwritten(SIBLINGS);
    history.wrote(3, PUT, dot(2, 1), &[]);
    let all = [dot(1, 1), dot(1, 2), dot(2, 1)];
    let shows = |shown: &[(u64, meridian_crdt::Dot)]| {
        judge("siblings", &history, &history.end(&all, shown)).map(|_| ())
    };
    assert_eq!(shows(&[(2, all[1]), (3, all[2])]), Ok(()));
    assert_eq!(shows(&[(2, all[1])]), Err("no sibling is lost"));
    assert_eq!(shows(&[(1, all[0]), (2, all[1]), (3, all[2])]), Err("no false sibling"));
    let last = overwritten(LWW);
    let shows = |shown: &[(u64, meridian_crdt::Dot)]| {
        judge("siblings", &last, &last.end(&all[..2], shown)).map(|_| ())
    };
    assert_eq!(shows(&[(2, all[1])]), Ok(()));
    assert_eq!(shows(&[(1, all[0])]), Err("no false sibling"));
}

#[test]
fn what_was_deleted_does_not_come_back() {
    for key in [SIBLINGS, LWW] {
        let mut history = History::of(key);
        history.wrote(1, PUT, dot(1, 1), &[]);
        history.wrote(2, DELETE, dot(1, 2), &[dot(1, 1)]);
        let all = [dot(1, 1), dot(1, 2)];
        let not_yet = history.end(&all[..1], &[(1, all[0])]);
        holds("deletes", &history, &not_yet);
        let back = history.end(&all, &[(1, all[0])]);
        let property = "what a delete covered does not come back";
        assert_eq!(judge("deletes", &history, &back), Err(property));
    }
}

#[test]
fn reads_are_regular_and_do_not_go_back() {
    for (level, name) in [(L::Quorum, "regular"), (L::Quorum, "monotonic")] {
        for key in [SIBLINGS, LWW] {
            let mut history = overwritten(key);
            history.read(level, &[2], None);
            history.read(level, &[2], None);
            holds(name, &history, &Final::default());
            history.read(level, &[1], None);
            assert!(judge(name, &history, &Final::default()).is_err(), "{name} {key}");
            let mut at_one = overwritten(key);
            at_one.read(level, &[2], None);
            at_one.read(L::One, &[1], None);
            assert!(judge(name, &at_one, &Final::default()).is_ok(), "{name} {key}");
        }
    }
}

#[test]
fn an_empty_answer_needs_a_delete() {
    for key in [SIBLINGS, LWW] {
        let mut history = overwritten(key);
        history.read(L::Quorum, &[], None);
        assert!(judge("regular", &history, &Final::default()).is_err());
        let mut deleted = overwritten(key);
        deleted.wrote(3, DELETE, dot(1, 3), &[dot(1, 2)]);
        deleted.read(L::Quorum, &[], None);
        holds("regular", &deleted, &Final::default());
    }
}

#[test]
fn a_token_without_an_acknowledged_write_is_a_stale_read() {
    let mut history = History::of(SIBLINGS);
    history.wrote(1, DELETE, dot(1, 1), &[]);
    history.read(L::Quorum, &[], Some(&[dot(1, 1)]));
    holds("regular", &history, &Final::default());
    history.read(L::Quorum, &[], Some(&[]));
    assert!(judge("regular", &history, &Final::default()).is_err());
}

#[test]
fn local_quorums_are_judged_by_local() {
    let mut history = History::of(SIBLINGS);
    let attempt = history.write(1, L::LocalQuorum, PUT, None);
    history.minted(1, dot(1, 1), 1, &[]);
    history.done(attempt, 1);
    history.read(L::LocalQuorum, &[1], None);
    history.read(L::LocalQuorum, &[1], None);
    holds("local", &history, &Final::default());
    history.read(L::LocalQuorum, &[], None);
    assert!(judge("local", &history, &Final::default()).is_err());
    assert!(judge("regular", &history, &Final::default()).is_ok());
}

#[test]
fn answers_are_true() {
    let history = overwritten(SIBLINGS);
    holds("answers", &history, &Final::default());

    let mut twice = overwritten(SIBLINGS);
    let attempt = twice.write(3, L::One, PUT, None);
    twice.done(attempt, 3);
    twice.done(attempt, 3);
    assert_eq!(judge("answers", &twice, &Final::default()), Err("one answer"));

    let mut applied = overwritten(SIBLINGS);
    let attempt = applied.write(3, L::One, PUT, None);
    applied.minted(3, dot(1, 3), 3, &[]);
    applied.tell(What::Returned { attempt, answer: failed(Effect::Unknown) });
    assert!(judge("answers", &applied, &Final::default()).is_ok());
    applied.told.pop();
    applied.tell(What::Returned { attempt, answer: failed(Effect::NotApplied) });
    assert_eq!(judge("answers", &applied, &Final::default()), Err("not_applied is true"));

    let mut alone = overwritten(SIBLINGS);
    let attempt = alone.write(3, L::Quorum, PUT, None);
    alone.minted(3, dot(1, 3), 3, &[]);
    alone.done(attempt, 3);
    assert_eq!(judge("answers", &alone, &Final::default()), Err("an acknowledgement is true"));

    let mut invented = overwritten(SIBLINGS);
    invented.read(L::One, &[9], None);
    assert_eq!(judge("answers", &invented, &Final::default()), Err("what is read was written"));
}

#[test]
fn a_dot_names_one_write_and_a_write_is_shown_once() {
    let mut history = overwritten(SIBLINGS);
    history.read(L::One, &[2], None);
    holds("counters", &history, &Final::default());
    history.read(L::One, &[2, 2], None);
    assert_eq!(judge("counters", &history, &Final::default()), Err("a write is shown once"));
    let mut reused = overwritten(SIBLINGS);
    reused.wrote(3, PUT, dot(1, 1), &[]);
    assert_eq!(judge("counters", &reused, &Final::default()), Err("a dot names one write"));
    let mut forgotten = overwritten(SIBLINGS);
    forgotten.minted(1, dot(2, 1), 1, &[]);
    holds("counters", &forgotten, &Final::default());
    forgotten.minted(1, dot(1, 3), 1, &[]);
    assert_eq!(judge("counters", &forgotten, &Final::default()), Err("a life mints a write once"));
}

#[test]
fn of_a_write_that_was_retried_elsewhere_the_dot_counts_that_was_promised() {
    let mut history = History::of(LWW);
    history.wrote(1, PUT, dot(1, 1), &[]);
    history.minted(1, dot(2, 1), 9, &[]);
    history.read(L::Quorum, &[1], None);
    history.wrote(5, PUT, dot(3, 1), &[]);
    history.read(L::Quorum, &[5], None);
    holds("regular", &history, &Final::default());
    holds("monotonic", &history, &Final::default());
    history.read(L::Quorum, &[1], None);
    assert!(judge("monotonic", &history, &Final::default()).is_err());
}

/// A history whose requests are one session's, all at ONE.
fn session(key: Key) -> History {
    let mut history = History::of(key);
    history.session = Some(SessionId(1));
    history
}

const RYW: &str = "a session reads its writes";
const BACK: &str = "reads of a session do not go back";
const AFTER_WRITES: &str = "writes of a session come one after the other";
const AFTER_READS: &str = "writes of a session follow its reads";

#[test]
fn a_session_reads_its_writes() {
    for key in [SIBLINGS, LWW] {
        let mut history = session(key);
        history.wrote(1, PUT, dot(1, 1), &[]);
        history.read(L::One, &[1], None);
        history.wrote(2, PUT, dot(1, 2), &[dot(1, 1)]);
        history.read(L::One, &[2], None);
        holds("sessions", &history, &Final::default());
        history.read(L::One, &[1], None);
        assert_eq!(judge("sessions", &history, &Final::default()), Err(RYW));
        // Of somebody else's reads nothing is promised.
        history.told.truncate(history.told.len() - 2);
        history.session = Some(SessionId(2));
        history.read(L::One, &[1], None);
        holds("sessions", &history, &Final::default());
    }
}

#[test]
fn reads_of_a_session_do_not_go_back() {
    for key in [SIBLINGS, LWW] {
        let mut history = overwritten(key);
        history.session = Some(SessionId(1));
        history.read(L::One, &[1], Some(&[dot(1, 1)]));
        history.read(L::One, &[2], Some(&[dot(1, 1), dot(1, 2)]));
        holds("sessions", &history, &Final::default());
        history.read(L::One, &[1], None);
        assert_eq!(judge("sessions", &history, &Final::default()), Err(BACK));
    }
}

#[test]
fn a_session_does_not_see_again_what_it_saw_deleted() {
    let mut history = History::of(SIBLINGS);
    history.wrote(1, PUT, dot(1, 1), &[]);
    history.wrote(2, DELETE, dot(1, 2), &[dot(1, 1)]);
    history.session = Some(SessionId(1));
    history.read(L::One, &[], Some(&[dot(1, 1), dot(1, 2)]));
    history.read(L::One, &[1], None);
    assert_eq!(judge("sessions", &history, &Final::default()), Err(BACK));
}

#[test]
fn writes_of_a_session_come_after_its_writes_and_reads() {
    let mut lww = session(LWW);
    lww.wrote(1, PUT, dot(1, 1), &[]);
    lww.wrote(3, PUT, dot(2, 1), &[]);
    holds("sessions", &lww, &Final::default());
    lww.wrote(2, PUT, dot(3, 1), &[]);
    assert_eq!(judge("sessions", &lww, &Final::default()), Err(AFTER_WRITES));

    let mut reader = History::of(LWW);
    reader.wrote(3, PUT, dot(1, 1), &[]);
    reader.session = Some(SessionId(1));
    reader.read(L::One, &[3], None);
    let mut late = reader.clone();
    late.wrote(2, PUT, dot(2, 1), &[]);
    assert_eq!(judge("sessions", &late, &Final::default()), Err(AFTER_READS));
    reader.wrote(4, PUT, dot(2, 1), &[]);
    holds("sessions", &reader, &Final::default());
}

#[test]
fn a_delete_of_a_session_takes_what_the_session_knew() {
    let delete = |history: &mut History, covers: &[_]| {
        let attempt = history.write(2, L::One, DELETE, None);
        history.minted(2, dot(2, 1), 2, covers);
        history.done(attempt, 2);
    };
    let mut own = session(SIBLINGS);
    own.wrote(1, PUT, dot(1, 1), &[]);
    let mut left = own.clone();
    delete(&mut own, &[dot(1, 1)]);
    holds("sessions", &own, &Final::default());
    delete(&mut left, &[]);
    assert_eq!(judge("sessions", &left, &Final::default()), Err(AFTER_WRITES));
}

#[test]
fn every_hint_is_accounted_for() {
    let mut history = History::of(SIBLINGS);
    let counted = |found, delivered, pending| What::HintsCounted {
        node: NodeId(1),
        target: NodeId(2),
        tally: HintTally { found, stored: 5, delivered, pending, ..HintTally::default() },
    };
    let taken = |known| What::HintTaken { holder: NodeId(1), target: NodeId(2), known };
    for known in [false, false, false, true] {
        history.tell(taken(known));
    }
    history.tell(counted(1, 3, 3));
    holds("hints", &history, &Final::default());
    let mut lost = History::of(SIBLINGS);
    lost.told.clone_from(&history.told);
    lost.tell(counted(1, 3, 2));
    assert_eq!(judge("hints", &lost, &Final::default()), Err("every hint is accounted for"));
    history.tell(counted(1, 4, 2));
    let early = Err("a hint is removed after its target has it");
    assert_eq!(judge("hints", &history, &Final::default()), early);
    let mut another_life = History::of(SIBLINGS);
    another_life.tell(taken(false));
    another_life.tell(What::Started { node: NodeId(1), incarnation: dot(1, 1).actor.incarnation });
    another_life.tell(counted(0, 1, 4));
    assert_eq!(judge("hints", &another_life, &Final::default()), early);
}

#[test]
fn after_the_faults_everything_works() {
    let healed = |history: &mut History, backlog| {
        history.setting = {
            let setting = (*history.setting).clone();
            Arc::new(Setting { heal: Micros::from_millis(1), ..setting })
        };
        history.tell(What::FaultsOver);
        history.tell(What::BacklogSeen { node: NodeId(1), backlog });
    };
    let mut history = overwritten(SIBLINGS);
    healed(&mut history, Backlog::default());
    history.read(L::All, &[2], None);
    let end = history.end(&[], &[]);
    holds("liveness", &history, &end);

    let mut unsound = end.clone();
    unsound.replicas.insert(NodeId(3), ReplicaState::default());
    assert_eq!(judge("liveness", &history, &unsound), Err("every node is sound"));

    let attempt = history.write(3, L::All, PUT, None);
    history.tell(What::Returned { attempt, answer: failed(Effect::Unknown) });
    assert_eq!(judge("liveness", &history, &end), Err("every request succeeds"));

    let mut late = overwritten(SIBLINGS);
    healed(&mut late, Backlog { hints: 1, ..Backlog::default() });
    assert_eq!(judge("liveness", &late, &end), Err("nothing is left to do"));
}

/// An atomic batch of two writes: its writes, and whether it was acknowledged.
fn batch_of_two(acknowledged: bool) -> History {
    let mut history = History::of(SIBLINGS);
    let write = |name, key| WriteAsk {
        write: WriteName(name),
        key,
        kind: PUT,
        context: None,
        conditional: false,
    };
    let writes = vec![write(1, SIBLINGS), write(2, SIBLINGS)];
    let attempt = history.invoke(L::Quorum, Ask::Batch { atomic: true, writes });
    for name in [1, 2] {
        history.minted(name, dot(1, name), 9, &[]);
    }
    if acknowledged {
        let done = || WriteAnswer::Done { applied: true, stamp: Hlc(9), context: None };
        let answer = Answer::Written(vec![done(), done()]);
        history.tell(What::Returned { attempt, answer });
    }
    history
}

#[test]
fn half_a_batch_is_found() {
    let dots = [dot(1, 1), dot(1, 2)];
    for acknowledged in [true, false] {
        let history = batch_of_two(acknowledged);
        holds("batches", &history, &history.end(&dots, &[(1, dots[0]), (2, dots[1])]));
        holds("batches", &history, &history.end(&dots, &[]));
        let half = history.end(&dots[1..], &[(2, dots[1])]);
        let property =
            if acknowledged { "what was acknowledged is whole" } else { "all or nothing" };
        assert_eq!(judge("batches", &history, &half), Err(property));
    }
    let history = batch_of_two(false);
    holds("batches", &history, &history.end(&[], &[]));
}

#[test]
fn an_acknowledged_batch_that_is_gone_is_found() {
    let history = batch_of_two(true);
    let property = "what was acknowledged is whole";
    assert_eq!(judge("batches", &history, &history.end(&[], &[])), Err(property));
}

#[test]
fn half_a_batch_on_a_lost_disk_is_excused() {
    let mut history = batch_of_two(true);
    history.lost(1, LossCause::Wipe, &[dot(1, 1)]);
    let end = history.end(&[dot(1, 2)], &[(2, dot(1, 2))]);
    let report = judge("batches", &history, &end).unwrap();
    assert_eq!(report.excused.values().sum::<u64>(), 1);
}
