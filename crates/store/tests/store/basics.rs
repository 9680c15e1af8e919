use std::sync::mpsc;

use meridian_store::{PAGE_ROWS_EXAMINED, SyncPolicy};
use meridian_types::{RingPosition, VnodeId, WriteId};

use super::*;

#[test]
fn concurrent_writes_are_siblings_until_a_write_with_their_context() {
    let node = Node::new(1);
    node.put("ks.siblings", "k", "a", WriteContext::None);
    node.put("ks.siblings", "k", "b", WriteContext::None);
    assert_eq!(values(&node.read("ks.siblings", "k")), ["a", "b"]);
    let token = node.token("ks.siblings", "k");
    node.put("ks.siblings", "k", "c", WriteContext::None);
    node.put("ks.siblings", "k", "d", WriteContext::Seen(token));
    let row = node.read("ks.siblings", "k");
    assert_eq!(values(&row), ["c", "d"]);
    assert!(row.context().is_empty(), "the clock's base covers what was seen");
    node.put("ks.siblings", "k", "e", WriteContext::WhatIsHere);
    assert_eq!(values(&node.read("ks.siblings", "k")), ["e"]);
}

#[test]
fn the_last_write_wins_and_a_delete_is_one() {
    let node = Node::new(1);
    node.put("ks.lww", "k", "a", WriteContext::None);
    node.put("ks.lww", "k", "b", WriteContext::None);
    assert_eq!(values(&node.read("ks.lww", "k")), ["b"]);
    let delete = LocalWrite { context: WriteContext::WhatIsHere, ..LocalWrite::default() };
    node.store.mint(&node.row("ks.lww", "k"), delete, NOW).unwrap();
    let row = node.read("ks.lww", "k");
    assert_eq!(values(&row), [""; 0]);
    assert_eq!(row.entries().len(), 1, "the marker stays");
}

#[test]
fn an_expired_value_is_there_and_not_seen() {
    let node = Node::new(1);
    let expires = Some(NOW.plus(10));
    let write = LocalWrite { expires, ..write("a", WriteContext::None) };
    node.store.mint(&node.row("ks.lww", "k"), write, NOW).unwrap();
    let row = node.read("ks.lww", "k");
    assert_eq!((row.visible(NOW).count(), row.visible(NOW.plus(10)).count()), (1, 0));
    assert_eq!(row.entries().len(), 1);
}

#[test]
fn a_delta_is_applied_once() {
    let (a, b) = (Node::new(1), Node::new(2));
    let row = a.row("ks.siblings", "k");
    let minted = a.put("ks.siblings", "k", "a", WriteContext::None);
    assert!(b.store.apply(&row, &minted.delta, None, NOW).unwrap().new);
    b.put("ks.siblings", "k", "b", WriteContext::WhatIsHere);
    let again = b.store.apply(&row, &minted.delta, None, NOW).unwrap();
    assert!(!again.new && b.store.is_settled(&again.commit));
    assert_eq!(values(&b.read("ks.siblings", "k")), ["b"], "nothing comes back");
    assert_eq!(b.store.stats().duplicates, 1);
}

#[test]
fn blind_writes_read_nothing() {
    let (a, b) = (Node::new(1), Node::new(2));
    for n in 0..10 {
        let context = WriteContext::Seen(a.token("ks.siblings", "other"));
        let minted = a.put("ks.lww", "k", &n.to_string(), context);
        assert!(minted.delta.context.is_empty(), "an LWW delta carries no context");
        b.store.apply(&a.row("ks.lww", "k"), &minted.delta, None, NOW).unwrap();
        a.put("ks.siblings", "s", &n.to_string(), WriteContext::None);
    }
    for stats in [a.store.stats(), b.store.stats()] {
        assert_eq!(stats.reading_writes, 0);
    }
    assert_eq!((a.store.stats().blind_writes, b.store.stats().blind_writes), (20, 10));
    a.put("ks.siblings", "s", "x", WriteContext::WhatIsHere);
    assert_eq!(a.store.stats().reading_writes, 1);
}

#[test]
fn a_retry_gets_the_dot_of_the_first_try_here_and_at_a_replica() {
    let (a, b) = (Node::new(1), Node::new(2));
    let row = a.row("ks.siblings", "k");
    let write_id = Some(WriteId::from_bytes([7; 16]));
    let write = || LocalWrite { write_id, ..write("a", WriteContext::None) };
    let first = a.store.mint(&row, write(), NOW).unwrap();
    let again = a.store.mint(&row, write(), NOW.plus(1000)).unwrap();
    assert!(!first.retried && again.retried);
    assert_eq!(first.delta, again.delta);
    b.store.apply(&row, &first.delta, write_id, NOW).unwrap();
    let elsewhere = b.store.mint(&row, write(), NOW).unwrap();
    assert!(elsewhere.retried);
    assert_eq!(elsewhere.delta, first.delta);
    // The same name for another row of the batch is another write.
    let other = a.store.mint(&a.row("ks.siblings", "l"), write(), NOW).unwrap();
    assert!(!other.retried);
    let late = a.store.mint(&row, write(), NOW.plus(options().write_id_ttl_ms + 1)).unwrap();
    assert!(!late.retried);
    assert_eq!(values(&a.read("ks.siblings", "k")), ["a"], "equal bytes are shown once");
}

#[test]
fn stamps_rise_with_counters_and_far_ones_are_refused() {
    let node = Node::new(1);
    let stamps: Vec<Hlc> = [5, 3, 900, 2]
        .map(|ahead| {
            let write = write("a", WriteContext::None);
            node.store.mint(&node.row("ks.lww", "k"), write, NOW.plus(ahead)).unwrap()
        })
        .map(|minted| minted.delta.entry.stamp)
        .to_vec();
    assert!(stamps.is_sorted() && stamps.windows(2).all(|pair| pair[0] != pair[1]), "{stamps:?}");

    let other = Node::new(2);
    let mut delta = node.put("ks.lww", "k", "b", WriteContext::None).delta;
    delta.entry.stamp = Hlc::new(NOW.plus(61_000), 0);
    let refused = other.store.apply(&node.row("ks.lww", "k"), &delta, None, NOW).unwrap_err();
    assert!(matches!(refused, StoreError::Stamp(_)), "{refused}");
    assert!(other.read("ks.lww", "k").is_empty());
    delta.entry.stamp = Hlc::new(NOW.plus(59_000), 0);
    other.store.apply(&node.row("ks.lww", "k"), &delta, None, NOW).unwrap();
    assert!(other.store.tick(NOW).unwrap() > delta.entry.stamp, "followed");
}

#[test]
fn a_late_write_with_an_older_stamp_loses_wherever_it_was_stored_before() {
    let [a, b, c] = [1, 2, 3].map(Node::new);
    let row = a.row("ks.lww", "k");
    let older = a.put("ks.lww", "k", "older", WriteContext::None).delta;
    b.store.apply(&row, &older, None, NOW).unwrap();
    let newer = b.put("ks.lww", "k", "newer", WriteContext::None).delta;
    c.store.apply(&row, &newer, None, NOW).unwrap();
    c.store.apply(&row, &older, None, NOW).unwrap();
    assert_eq!(values(&c.read("ks.lww", "k")), ["newer"]);
    // Also where the newer one is from before a restart, and the wall clock stepped back.
    let c = c.restarted(9);
    let write = write("newest", WriteContext::None);
    let newest = c.store.mint(&row, write, Millis(1000)).unwrap().delta;
    assert!(newest.entry.stamp > newer.entry.stamp);
    assert_eq!(values(&c.read("ks.lww", "k")), ["newest"]);
}

#[test]
fn a_stamp_too_far_ahead_that_came_with_a_pull_wins_also_after_a_restart() {
    let (broken, node) = (Node::new(2), Node::new(1));
    let row = node.row("ks.lww", "k");
    // The wall clock of one node is a day ahead.
    let ahead = NOW.plus(24 * 60 * 60 * 1000);
    broken.store.mint(&row, write("future", WriteContext::None), ahead).unwrap();
    node.put("ks.lww", "k", "present", WriteContext::None);
    pulls::pull(&node, &broken);
    assert_eq!(values(&node.read("ks.lww", "k")), ["future"]);
    let after = node.put("ks.lww", "k", "later", WriteContext::None).delta;
    assert!(after.entry.stamp < Hlc::new(ahead, 0), "the stamp is not followed");
    assert_eq!(values(&node.read("ks.lww", "k")), ["future"]);
    let node = node.restarted(9);
    node.put("ks.lww", "k", "later still", WriteContext::None);
    assert_eq!(values(&node.read("ks.lww", "k")), ["future"]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let node = Node::new(1);
    let row = node.row("ks.lww", "k");
    let mint =
        |row: &RowKey| node.store.mint(row, write("a", WriteContext::None), NOW).unwrap_err();
    let other = VnodeId(1 - row.vnode.0);
    assert!(matches!(mint(&RowKey { vnode: other, ..row.clone() }), StoreError::WrongVnode { .. }));
    let unknown = RowKey { table: TableId(1), ..row.clone() };
    assert!(matches!(mint(&unknown), StoreError::UnknownTable(TableId(1))));
    let keyspace = meridian_types::KeyspaceId(1);
    let wrong = RowKey { keyspace, ..row.clone() };
    assert!(matches!(mint(&wrong), StoreError::WrongKeyspace { .. }));
    assert!(matches!(mint(&node.row("ks.lww", "")), StoreError::Key(_)));
    let long = "x".repeat(5000);
    assert!(matches!(mint(&node.row("ks.lww", &long)), StoreError::Key(_)));
    let beyond = node.store.pull_page(
        row.keyspace,
        VnodeId(2),
        &meridian_crdt::VnodeClock::default(),
        None,
        false,
        1 << 20,
    );
    assert!(matches!(beyond.unwrap_err(), StoreError::NoSuchVnode { .. }));
    assert!(node.store.clock(row.keyspace, row.vnode).is_empty());
}

#[test]
fn a_context_that_covers_the_next_dot_is_refused() {
    let node = Node::new(1);
    let next = meridian_crdt::Dot::new(node.store.actor(), 1);
    let context = WriteContext::Seen([next].into_iter().collect());
    let write = write("a", context);
    let refused = node.store.mint(&node.row("ks.siblings", "k"), write, NOW).unwrap_err();
    assert!(matches!(refused, StoreError::ForgottenDot { .. }), "{refused}");
}

#[test]
fn pages_follow_the_ring_and_end_where_they_say() {
    let node = Node::new(1);
    for n in 0..50 {
        node.put("ks.lww", &format!("a{n}"), "x", WriteContext::None);
        node.put("ks.lww", &format!("b{n}"), "x", WriteContext::None);
    }
    let id = table("ks.lww");
    let whole = node.store.page(id, None, u64::MAX, 1000, b"").unwrap();
    assert_eq!((whole.rows.len(), whole.more, whole.end), (100, false, None));
    assert!(whole.rows.is_sorted_by_key(|(position, _)| position.clone()));
    let mut paged = Vec::new();
    let mut after: Option<RingPosition> = None;
    loop {
        let page = node.store.page(id, after.as_ref(), u64::MAX, 7, b"a").unwrap();
        paged.extend(page.rows);
        after = page.end;
        assert_eq!(page.more, after.is_some());
        if !page.more {
            break;
        }
    }
    let expected = whole.rows.iter().filter(|(position, _)| position.key.starts_with(b"a"));
    assert!(paged.iter().eq(expected));
    assert_eq!(paged.len(), 50);
    let until = whole.rows[41].0.token;
    let part = node.store.page(id, Some(&whole.rows[9].0), until, 1000, b"").unwrap();
    assert_eq!(part.rows, whole.rows[10..=41]);
}

#[test]
fn a_page_that_finds_little_ends_after_bounded_work() {
    let node = Node::new(1);
    for n in 0..PAGE_ROWS_EXAMINED + 10 {
        node.put("ks.lww", &n.to_string(), "x", WriteContext::None);
    }
    let first = node.store.page(table("ks.lww"), None, u64::MAX, 10, b"none").unwrap();
    assert!(first.rows.is_empty() && first.more);
    let rest = node.store.page(table("ks.lww"), first.end.as_ref(), u64::MAX, 10, b"none").unwrap();
    assert!(rest.rows.is_empty() && !rest.more);
}

#[test]
fn digests_follow_the_clocks() {
    let (a, b) = (Node::new(1), Node::new(2));
    let row = a.row("ks.lww", "k");
    let vnodes = [VnodeId(0), VnodeId(1)];
    let digests = |node: &Node| node.store.clock_digests(row.keyspace, &vnodes);
    assert_eq!(digests(&a), digests(&b));
    let minted = a.put("ks.lww", "k", "a", WriteContext::None);
    let after = digests(&a);
    assert_ne!(after, digests(&b));
    assert_eq!(after[row.vnode.0 as usize].1, a.store.clock(row.keyspace, row.vnode).digest());
    b.store.apply(&row, &minted.delta, None, NOW).unwrap();
    assert_eq!(after, digests(&b));
    // Both are computed now, and must not be kept.
    a.put("ks.lww", "k", "b", WriteContext::None);
    assert_ne!(digests(&a), after);
    b.put("ks.siblings", "k", "b", WriteContext::WhatIsHere);
    assert_ne!(digests(&b), after);
}

#[test]
fn a_settled_commit_is_durable_under_always() {
    let options = StoreOptions { sync: SyncPolicy::Always, workers: 1, ..options() };
    let (fs, metadata) = (MemFs::new(), MemMetadata::new());
    let (store, _) = open_with(1, &fs, &metadata, options, 5).unwrap();
    store.join_catalog(&catalog()).unwrap();
    let node = Node { number: 1, fs, metadata, opened: opened(), store };
    let minted = node.put("ks.lww", "k", "a", WriteContext::None);
    let (sender, receiver) = mpsc::channel();
    node.store.on_settled(
        &minted.commit,
        Box::new(move |settled| {
            sender.send(settled.is_ok()).unwrap();
        }),
    );
    assert!(receiver.recv().unwrap());
    assert!(node.store.is_settled(&minted.commit));
    node.store.wait(&minted.commit).unwrap();
    let fs = node.fs.crash_clone(meridian_vfs::CrashChoice::LoseUnsynced);
    let after = Node::on(1, fs, node.metadata.crash_clone(), 6);
    assert_eq!(values(&after.read("ks.lww", "k")), ["a"]);
}

fn opened() -> Opened {
    Opened {
        incarnation: Incarnation(0),
        new_incarnation: true,
        clean: true,
        data_lost: false,
        unproven: false,
        tail_lost: false,
        recovered_records: 0,
        torn_bytes: 0,
        lost: Vec::new(),
        reset_vnodes: 0,
    }
}

#[test]
fn figures_name_the_tables() {
    let node = Node::new(1);
    for n in 0..100 {
        node.put("ks.lww", &n.to_string(), "x", WriteContext::None);
    }
    let before = node.store.stats();
    node.store.flush().unwrap();
    let after = node.store.stats();
    let lww = |stats: &meridian_store::StoreStats| {
        stats.tables.iter().find(|t| t.name.as_str() == "ks.lww").unwrap().clone()
    };
    assert_eq!((lww(&before).estimated_rows, lww(&before).disk_bytes), (100, 0));
    assert_eq!((lww(&after).estimated_rows, after.vnodes), (100, 2));
    assert!(lww(&after).disk_bytes > 0 && after.disk_bytes > lww(&after).disk_bytes);
    assert!(after.highest_stamp >= Hlc::new(NOW, 0));
}
