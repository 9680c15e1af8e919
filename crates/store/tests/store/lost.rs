//! Disks that lose tables, parts of the log, or the clocks: what is gone is known, what is left
//! proves itself, and the others make it good (rule 10).

use std::collections::BTreeSet;
use std::path::PathBuf;

use meridian_crdt::{Actor, Delta, Dot, Entry, VnodeClock};
use meridian_store::{
    EndedPull, OtherReplicas, PagePosition, PeerStanding, ReadClass, SyncPolicy, VnodeKind,
};
use meridian_types::VnodeId;
use meridian_vfs::{CrashChoice, Fs};

use super::pulls::{keyspace, pull};
use super::*;

const VNODES: [VnodeId; 2] = [VnodeId(0), VnodeId(1)];
const TABLES: [&str; 2] = ["ks.siblings", "ks.lww"];
const KEYS: usize = 24;

fn others() -> OtherReplicas {
    let all = BTreeSet::from([NodeId(2), NodeId(3)]);
    OtherReplicas { local: all.clone(), all }
}

/// Pulls one vnode in full, to the end of what that means.
fn full_pull(to: &Store, from: &Store, vnode: VnodeId, at: Option<PeerStanding>) {
    let round = to.state(keyspace(), vnode).round();
    let (mut after, mut first): (Option<PagePosition>, _) = (None, None);
    loop {
        let mine = to.clock(keyspace(), vnode);
        let page = from.pull_page(keyspace(), vnode, &mine, after.clone(), true, 500).unwrap();
        let (rows, until) = (&page.rows, page.next.as_ref());
        to.sweep(keyspace(), vnode, after.as_ref(), rows, until, &page.clock).unwrap();
        first.get_or_insert((page.clock, page.standing));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let (clock, standing) = first.unwrap();
    let at = at.unwrap_or(standing);
    let pull = EndedPull { peer: from.actor().node, at, full: true, round };
    to.pull_ended(keyspace(), vnode, &pull, &clock, &others()).unwrap();
}

fn sound() -> PeerStanding {
    let goods = meridian_store::Goods::EVERY;
    PeerStanding { kind: VnodeKind::Sound, goods, loss: Incarnation(0) }
}

/// Rebuilds what is not sound from two peers that are.
fn rebuild(store: &Store, peers: &[Node; 2]) {
    for vnode in VNODES {
        for peer in peers {
            full_pull(store, &peer.store, vnode, Some(sound()));
        }
        if store.judge(keyspace(), vnode, &others()).unwrap().through {
            store.end_rebuild(keyspace(), vnode, &others()).unwrap();
        }
        assert_eq!(store.state(keyspace(), vnode).kind, VnodeKind::Sound);
    }
}

type Rows = Vec<(RowKey, Row)>;

/// A closed node with tables of either vnode alone and of both, and a log; and two that have all of
/// it.
struct Case {
    fs: MemFs,
    metadata: MemMetadata,
    truth: Rows,
    clocks: Vec<Arc<VnodeClock>>,
    peers: [Node; 2],
}

fn rows_of(store: &Store) -> Rows {
    let mut rows = Vec::new();
    for name in TABLES {
        let def = store.table(table(name)).unwrap();
        for n in 0..KEYS {
            let key = store.row_key(&def, Bytes::from(n.to_string()));
            let row = store.read(&key).unwrap().row;
            rows.push((key, row));
        }
    }
    rows
}

/// `only_here` are keys that are written last and that nobody else gets.
fn case(sync: SyncPolicy, only_here: usize) -> Case {
    let (fs, metadata) = (MemFs::new(), MemMetadata::new());
    let (store, opened) =
        open_with(1, &fs, &metadata, StoreOptions { sync, ..options() }, 1001).unwrap();
    store.join_catalog(&catalog()).unwrap();
    let node = Node { number: 1, fs, metadata, store, opened };
    let peers = [Node::new(2), Node::new(3)];
    rebuild(&node.store, &peers);
    for vnode in VNODES {
        for (name, n) in TABLES.iter().flat_map(|name| (0..KEYS).map(move |n| (*name, n))) {
            if node.row(name, &n.to_string()).vnode == vnode {
                node.put(name, &n.to_string(), &format!("{n}.a"), WriteContext::None);
            }
        }
        node.store.flush().unwrap();
    }
    for name in TABLES {
        for n in (0..KEYS).step_by(3) {
            node.put(name, &n.to_string(), &format!("{n}.b"), WriteContext::WhatIsHere);
        }
        for n in (0..KEYS).step_by(5) {
            let write = LocalWrite {
                context: WriteContext::Seen(node.token(name, &n.to_string())),
                ..LocalWrite::default()
            };
            node.store.mint(&node.row(name, &n.to_string()), write, NOW).unwrap();
        }
    }
    node.store.flush().unwrap();
    for n in (0..KEYS).step_by(2) {
        node.put("ks.siblings", &n.to_string(), &format!("{n}.c"), WriteContext::None);
    }
    for peer in &peers {
        pull(peer, &node);
    }
    for n in 0..only_here {
        node.put("ks.siblings", &n.to_string(), &format!("{n}.d"), WriteContext::None);
    }
    let clocks = VNODES.map(|vnode| node.store.clock(keyspace(), vnode)).to_vec();
    let Node { fs, metadata, store, .. } = node;
    let truth = rows_of(&store);
    store.close().unwrap();
    Case { fs, metadata, truth, clocks, peers }
}

/// Reads everything; what a damaged file is found by.
fn read_all(store: &Store, truth: &Rows) -> Result<(), StoreError> {
    for (key, _) in truth {
        store.read(key)?;
    }
    for name in TABLES {
        store.page(table(name), None, u64::MAX, 1000, b"")?;
    }
    Ok(())
}

/// Opens it as an operator does: what turns out to be damaged is noted, and it is started again.
fn start(fs: &MemFs, metadata: &MemMetadata, truth: &Rows, fresh: u64) -> (Store, Opened) {
    for again in 0..10 {
        let options = StoreOptions { sync: SyncPolicy::Always, ..options() };
        let (store, opened) = open_with(1, fs, metadata, options, fresh + again).unwrap();
        let Err(damage) = read_all(&store, truth) else { return (store, opened) };
        assert!(store.must_stop().is_none());
        assert!(damage.is_corruption() && store.note_damage(&damage).unwrap(), "{damage}");
        assert_eq!(store.must_stop(), Some(damage.to_string()));
    }
    panic!("it does not end");
}

/// What is claimed is there; a vnode that is not hurt is as it was; of the others nobody is shown
/// anything that is not proven. Returns the vnodes that begin anew.
fn check(store: &Store, case: &Case, what: &str) -> Vec<VnodeId> {
    let mut anew = Vec::new();
    for (vnode, before) in VNODES.into_iter().zip(&case.clocks) {
        let clock = store.clock(keyspace(), vnode);
        let truth = case.truth.iter().filter(|(key, _)| key.vnode == vnode);
        let kind = store.state(keyspace(), vnode).kind;
        if kind != VnodeKind::Rebuilding {
            assert_eq!((kind, &clock), (VnodeKind::Sound, before), "{what}");
            for (key, row) in truth {
                assert_eq!(store.read(key).unwrap().row.entries(), row.entries(), "{what} {key:?}");
            }
            continue;
        }
        for class in [ReadClass::One, ReadClass::Local, ReadClass::Global, ReadClass::All] {
            assert!(!store.standing(keyspace(), vnode).answers(class), "{what}");
        }
        for (key, row) in truth {
            let shown = store.read(key).unwrap().row;
            for entry in row.entries() {
                let has = shown.entry(entry.dot) == Some(entry);
                assert_eq!(clock.contains(entry.dot), has, "{what}: {key:?} {entry:?}");
            }
            assert!(shown.entries().iter().all(|entry| clock.contains(entry.dot)), "{what}");
        }
        let nothing = VnodeClock::default();
        let page = store.pull_page(keyspace(), vnode, &nothing, None, true, 1 << 20).unwrap();
        assert_eq!((page.standing.kind, page.standing.loss), (kind, store.actor().incarnation));
        for (_, _, row) in page.rows.iter().filter(|(id, ..)| *id == table("ks.siblings")) {
            assert!(row.entries().iter().all(|entry| clock.contains(entry.dot)), "{what}");
        }
        anew.push(vnode);
    }
    let page = store.page(table("ks.siblings"), None, u64::MAX, 1000, b"").unwrap();
    for (position, row) in page.rows {
        let vnode = store.vnode_of(&position.key);
        let clock = store.clock(keyspace(), vnode);
        assert!(row.entries().iter().all(|entry| clock.contains(entry.dot)), "{what}");
    }
    anew
}

fn files(fs: &MemFs, ends: &[&str]) -> Vec<PathBuf> {
    let names = fs.list(Path::new(DIR)).unwrap();
    let wanted = names.into_iter().filter(|name| {
        name.extension().is_some_and(|end| ends.iter().any(|wanted| end == *wanted))
    });
    wanted.map(|name| Path::new(DIR).join(name)).collect()
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Gone,
    Cut,
    Rot(u64),
}

impl Damage {
    const ALL: [Self; 6] =
        [Self::Gone, Self::Cut, Self::Rot(1), Self::Rot(20), Self::Rot(60), Self::Rot(95)];

    fn make(self, fs: &MemFs, file: &Path) {
        let len = fs.open(file).unwrap().len().unwrap();
        match self {
            Self::Gone => fs.remove(file).unwrap(),
            Self::Cut => fs.truncate(file, usize::try_from(len / 2).unwrap()).unwrap(),
            Self::Rot(percent) => fs.flip_bit(file, len * 8 * percent / 100).unwrap(),
        }
    }
}

#[test]
fn whatever_file_is_damaged_what_is_lost_is_known_and_the_others_make_it_good() {
    let case = case(SyncPolicy::Always, 0);
    let shown: Vec<Vec<String>> = case.truth.iter().map(|(_, row)| values(row)).collect();
    let mut hurt = [0; 3];
    for file in files(&case.fs, &["sst", "log"]) {
        for damage in Damage::ALL {
            let what = format!("{} {damage:?}", file.display());
            let fs = case.fs.crash_clone(CrashChoice::KeepEverything);
            damage.make(&fs, &file);
            let metadata = case.metadata.crash_clone();
            let (store, opened) = start(&fs, &metadata, &case.truth, 50);
            let anew = check(&store, &case, &what);
            hurt[anew.len()] += 1;
            assert_eq!(
                (opened.reset_vnodes, opened.lost.is_empty()),
                (anew.len(), anew.is_empty())
            );
            assert!(anew.is_empty() || opened.new_incarnation, "{what}");
            rebuild(&store, &case.peers);
            let again: Vec<_> = rows_of(&store).iter().map(|(_, row)| values(row)).collect();
            assert_eq!(again, shown, "{what}");
            for (key, row) in &case.truth {
                let after = store.read(key).unwrap().row;
                assert_eq!(after.entries(), row.entries(), "{what}: {key:?}");
            }
            // It is told once, and it is over.
            store.close().unwrap();
            let (store, opened) = open_with(1, &fs, &metadata, options(), 60).unwrap();
            assert!(opened.clean && opened.lost.is_empty() && opened.reset_vnodes == 0, "{what}");
            assert_eq!(store.state(keyspace(), VNODES[0]).kind, VnodeKind::Sound);
        }
    }
    assert!(hurt[1] > 5 && hurt[2] > 5, "{hurt:?}");
}

#[test]
fn a_damaged_manifest_is_refused() {
    let case = case(SyncPolicy::Always, 0);
    for name in case.fs.list(Path::new(DIR)).unwrap() {
        if name.to_string_lossy().starts_with("MANIFEST") {
            case.fs.flip_bit(&Path::new(DIR).join(name), 300).unwrap();
        }
    }
    let refused = open_with(1, &case.fs, &case.metadata, options(), 50).unwrap_err();
    assert!(refused.is_corruption(), "{refused}");
}

/// A compaction reads what nobody asks for.
#[test]
fn damage_that_a_compaction_meets_is_noted() {
    let case = case(SyncPolicy::Always, 0);
    let id = table("ks.siblings");
    let mut noted = 0;
    for file in of_tree(&case, &format!("t{}", id.0)) {
        let (fs, metadata) =
            (case.fs.crash_clone(CrashChoice::KeepEverything), case.metadata.crash_clone());
        Damage::Rot(20).make(&fs, &file);
        let (store, opened) = open_with(1, &fs, &metadata, options(), 50).unwrap();
        if !opened.lost.is_empty() {
            continue;
        }
        let def = store.table(id).unwrap();
        for n in 0..200 {
            for key in 0..KEYS {
                let row = store.row_key(&def, Bytes::from(key.to_string()));
                store.mint(&row, write("x", WriteContext::None), NOW).unwrap();
            }
            store.flush().unwrap();
            if (0..4).any(|_| store.poll_job().is_err()) {
                break;
            }
            assert!(n < 199, "no compaction came by");
        }
        let why = store.must_stop().unwrap();
        assert!(why.contains(file.file_name().unwrap().to_str().unwrap()), "{why}");
        drop(store);
        let (_, opened) = open_with(1, &fs, &metadata, options(), 60).unwrap();
        assert!(!opened.lost.is_empty() && opened.reset_vnodes > 0);
        noted += 1;
    }
    assert!(noted > 0);
}

/// The files of one tree that were written last.
fn of_tree(case: &Case, tree: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in files(&case.fs, &["sst"]) {
        let fs = case.fs.crash_clone(CrashChoice::KeepEverything);
        fs.remove(&file).unwrap();
        let (_, opened) = open_with(1, &fs, &case.metadata.crash_clone(), options(), 50).unwrap();
        if opened.lost.iter().any(|lost| lost.contains(&format!("of tree {tree},"))) {
            found.push(file);
        }
    }
    found
}

/// A power cut at any moment of a start that finds a loss: never a clock without its rows.
#[test]
fn a_start_that_finds_a_loss_may_be_cut_off_at_any_moment() {
    let case = case(SyncPolicy::Always, 0);
    let clocks = of_tree(&case, "clocks");
    let rows = of_tree(&case, &format!("t{}", table("ks.siblings").0));
    let shown: Vec<Vec<String>> = case.truth.iter().map(|(_, row)| values(row)).collect();
    for file in clocks.iter().chain(&rows) {
        let (fs, metadata) =
            (case.fs.crash_clone(CrashChoice::KeepEverything), case.metadata.crash_clone());
        Damage::Cut.make(&fs, file);
        let cuts = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (taken, kept) = (cuts.clone(), metadata.clone());
        fs.set_sync_hook(move |fs, point| {
            for choice in [CrashChoice::LoseUnsynced, CrashChoice::Torn(point.number)] {
                taken.lock().push((fs.crash_clone(choice), kept.crash_clone()));
            }
        });
        let options = || StoreOptions { sync: SyncPolicy::Always, ..options() };
        drop(open_with(1, &fs, &metadata, options(), 50).unwrap());
        fs.clear_sync_hook();
        let cuts = std::mem::take(&mut *cuts.lock());
        assert!(cuts.len() > 10, "{}", cuts.len());
        for (number, (fs, metadata)) in cuts.into_iter().enumerate() {
            let what = format!("{} cut off at {number}", file.display());
            let (store, _) = open_with(1, &fs, &metadata, options(), 70).unwrap();
            assert!(!check_anew(&store, &case, &what).is_empty(), "{what}: the loss is forgotten");
            rebuild(&store, &case.peers);
            let again: Vec<_> = rows_of(&store).iter().map(|(_, row)| values(row)).collect();
            assert_eq!(again, shown, "{what}");
        }
    }
}

/// As [`check`], where the loss may have been found by the start before.
fn check_anew(store: &Store, case: &Case, what: &str) -> Vec<VnodeId> {
    let mut anew = Vec::new();
    for (vnode, before) in VNODES.into_iter().zip(&case.clocks) {
        let state = store.state(keyspace(), vnode);
        assert!(!state.resetting, "{what}");
        let clock = store.clock(keyspace(), vnode);
        match state.kind {
            VnodeKind::Rebuilding => anew.push(vnode),
            kind => assert_eq!((kind, &clock), (VnodeKind::Sound, before), "{what}"),
        }
        for (key, row) in case.truth.iter().filter(|(key, _)| key.vnode == vnode) {
            let shown = store.read(key).unwrap().row;
            for entry in row.entries().iter().filter(|entry| clock.contains(entry.dot)) {
                assert_eq!(shown.entry(entry.dot), Some(entry), "{what}: a clock without its rows");
            }
        }
    }
    anew
}

#[test]
fn what_nobody_else_has_is_written_anew_when_all_others_were_asked() {
    let case = case(SyncPolicy::Always, 10);
    let file = &of_tree(&case, "clocks")[0];
    let (fs, metadata) =
        (case.fs.crash_clone(CrashChoice::KeepEverything), case.metadata.crash_clone());
    fs.remove(file).unwrap();
    let (store, _) = open_with(1, &fs, &metadata, options(), 50).unwrap();
    assert_eq!(check(&store, &case, "clocks").len(), 2);
    rebuild(&store, &case.peers);
    assert_eq!(store.stats().reissued_values, 10);
    // Without another sync.
    drop(store);
    let fs = fs.crash_clone(CrashChoice::LoseUnsynced);
    let (store, opened) = open_with(1, &fs, &metadata.crash_clone(), options(), 60).unwrap();
    assert!(opened.tail_lost && opened.lost.is_empty());
    for (key, row) in &case.truth {
        let after = store.read(key).unwrap();
        assert_eq!(values(&after.row), values(row), "{key:?}");
        assert!(after.row.entries().iter().all(|entry| after.clock.contains(entry.dot)));
        let is_anew = |entry: &&Entry| entry.dot.actor.incarnation == Incarnation(50);
        let number: usize = String::from_utf8(key.key.to_vec()).unwrap().parse().unwrap();
        let is_only_here = key.table == table("ks.siblings") && number < 10;
        let anew = after.row.entries().iter().filter(is_anew).count();
        assert_eq!(anew, usize::from(is_only_here), "{key:?}");
    }
    let node = Node { number: 1, fs, metadata, store, opened };
    pull(&case.peers[0], &node);
    for (key, row) in &case.truth {
        assert_eq!(values(&case.peers[0].store.read(key).unwrap().row), values(row));
    }
}

/// A delta that came before what its writer had seen leaves a context in its row. It covers what
/// was replaced by an entry that is loose after a reset.
fn with_context() -> (Node, RowKey, Delta, Dot) {
    let node = Node::new(1);
    let actor = Actor { node: NodeId(9), incarnation: Incarnation(9) };
    let (first, second) = (Dot::new(actor, 1), Dot::new(actor, 2));
    let row = node.row("ks.siblings", "k");
    let value = Some(Bytes::from_static(b"v"));
    let entry = Entry { dot: second, stamp: Hlc::new(NOW, 1), expires: None, value };
    let delta = Delta { entry, context: [first].into_iter().collect() };
    node.store.apply(&row, &delta, None, NOW).unwrap();
    assert!(node.store.read(&row).unwrap().row.context().contains(first));
    node.store.flush().unwrap();
    (node, row, delta, first)
}

#[test]
fn the_contexts_of_rows_go_with_their_clock() {
    let (Node { fs, metadata, store, .. }, row, delta, first) = with_context();
    store.close().unwrap();
    for file in files(&fs, &["sst"]) {
        let damaged = fs.crash_clone(CrashChoice::KeepEverything);
        damaged.remove(&file).unwrap();
        let (store, opened) =
            open_with(1, &damaged, &metadata.crash_clone(), options(), 50).unwrap();
        let version = store.read(&row).unwrap();
        assert!(version.row.is_empty() && version.clock.is_empty());
        assert_eq!(opened.reset_vnodes, 1, "its table, or its clock");
        // The delta again, if the row was what is left: it says what its writer had seen itself.
        let mut blind = delta.clone();
        blind.context = Context::default();
        store.apply(&row, &blind, None, NOW).unwrap();
        let version = store.read(&row).unwrap();
        assert_eq!(version.row.entry(delta.entry.dot), Some(&delta.entry));
        assert!(!version.row.context().contains(first));
        // And what it covered is a sibling to whoever has it.
    }
}

/// On an LWW table nothing depends on contexts: one full pull proves what is here.
#[test]
fn what_is_here_of_an_lww_table_is_proven_by_a_full_pull_or_an_operator() {
    let case = case(SyncPolicy::Always, 0);
    let file = &of_tree(&case, "clocks")[0];
    for by_operator in [false, true] {
        let (fs, metadata) =
            (case.fs.crash_clone(CrashChoice::KeepEverything), case.metadata.crash_clone());
        fs.remove(file).unwrap();
        let (store, _) = open_with(1, &fs, &metadata, options(), 50).unwrap();
        let lww: Vec<_> =
            case.truth.iter().filter(|(key, _)| key.table == table("ks.lww")).collect();
        let handed_out = |vnode| {
            let nothing = VnodeClock::default();
            let page = store.pull_page(keyspace(), vnode, &nothing, None, true, 1 << 20).unwrap();
            page.rows.len()
        };
        assert_eq!(VNODES.map(handed_out).iter().sum::<usize>(), lww.len());
        assert!(lww.iter().all(|(key, _)| store.read(key).unwrap().row.is_empty()));
        if by_operator {
            store.accept_loss(keyspace(), &VNODES).unwrap();
        } else {
            let nobody = Node::new(3);
            for vnode in VNODES {
                full_pull(&store, &nobody.store, vnode, None);
            }
        }
        for (key, row) in lww {
            let after = store.read(key).unwrap();
            assert_eq!(after.row.entries(), row.entries());
            assert!(after.row.entries().iter().all(|entry| after.clock.contains(entry.dot)));
            assert_eq!(store.standing(keyspace(), key.vnode).answers(ReadClass::All), by_operator);
        }
    }
}

/// A blind write must not go over an entry with a higher stamp that the marks do not tell of.
#[test]
fn stamps_stay_above_all_that_is_found() {
    let case = case(SyncPolicy::Always, 0);
    let top = |rows: &Rows| {
        rows.iter().flat_map(|(_, row)| row.entries()).map(|entry| entry.stamp).max().unwrap()
    };
    let (fs, metadata) = (case.fs.clone(), case.metadata.clone());
    for file in of_tree(&case, "clocks").into_iter().chain(files(&fs, &["log"])) {
        fs.remove(&file).unwrap();
    }
    let (store, _) = open_with(1, &fs, &metadata, options(), 50).unwrap();
    // As far as it is there.
    let mut left: Rows = Vec::new();
    for vnode in VNODES {
        let nothing = VnodeClock::default();
        let page = store.pull_page(keyspace(), vnode, &nothing, None, true, 1 << 20).unwrap();
        for (id, key, row) in page.rows {
            left.push((store.row_key(&store.table(id).unwrap(), key), row));
        }
    }
    assert!(store.tick(Millis(1)).unwrap() > top(&left));
    let def = store.table(table("ks.lww")).unwrap();
    let row = store.row_key(&def, Bytes::from_static(b"1"));
    let minted = store.mint(&row, write("new", WriteContext::None), Millis(1)).unwrap();
    assert!(minted.delta.entry.stamp > top(&left));
    let far = Millis(NOW.0 + 10 * options().max_clock_ahead_ms);
    drop(store);
    // What is too far ahead to be followed is known to be there all the same.
    let (store, _) = open_with(1, &fs, &metadata, options(), 60).unwrap();
    assert!(store.tick(Millis(1)).unwrap() > minted.delta.entry.stamp);
    let actor = Actor { node: NodeId(9), incarnation: Incarnation(9) };
    let ahead = Entry { dot: Dot::new(actor, 1), stamp: Hlc::new(far, 0), ..minted.delta.entry };
    store.join(&row, &Row::new([ahead.clone()], Context::default()), &Context::default()).unwrap();
    store.flush().unwrap();
    store.close().unwrap();
    for name in files(&fs, &["sst"]) {
        let copy = fs.crash_clone(CrashChoice::KeepEverything);
        copy.remove(&name).unwrap();
        let (store, opened) = open_with(1, &copy, &metadata.crash_clone(), options(), 70).unwrap();
        if opened.lost.iter().any(|lost| lost.contains("of tree clocks,")) {
            store.accept_loss(keyspace(), &VNODES).unwrap();
            store.mint(&row, write("late", WriteContext::None), NOW).unwrap();
            assert_eq!(store.read(&row).unwrap().row.entries()[0].stamp, ahead.stamp);
        }
    }
}

#[test]
fn a_loss_without_the_catalog_is_refused_and_an_empty_directory_is_the_way_out() {
    let case = case(SyncPolicy::Always, 0);
    let file = &of_tree(&case, &format!("t{}", table("ks.lww").0))[0];
    for lost in [file, &of_tree(&case, "clocks")[0]] {
        let fs = case.fs.crash_clone(CrashChoice::KeepEverything);
        fs.remove(lost).unwrap();
        for _ in 0..2 {
            let refused = open_with(1, &fs, &MemMetadata::new(), options(), 50).unwrap_err();
            assert!(matches!(refused, StoreError::LostWithCatalog { .. }), "{refused}");
        }
        let (store, opened) =
            open_with(1, &MemFs::new(), &case.metadata.crash_clone(), options(), 60).unwrap();
        assert!(opened.data_lost);
        assert_eq!(store.state(keyspace(), VNODES[0]).kind, VnodeKind::Fresh);
    }
}
