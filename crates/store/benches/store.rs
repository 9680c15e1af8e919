//! What a replica's room adds to the storage engine: `cargo bench -p meridian-store`.
//!
//! One thread, 100-byte values, files in a temporary directory, the log synced every 100 ms. Each
//! figure stands beside what the engine alone takes for as many bytes.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use meridian_crdt::{Actor, ConflictPolicy, Context, Delta, Dot, Entry};
use meridian_lsm::{Db, DbOptions, TreeConfig, Workers, WriteBatch};
use meridian_store::{Identity, LocalWrite, MemMetadata, Store, StoreOptions, WriteContext};
use meridian_types::catalog::Version;
use meridian_types::{
    Catalog, Hlc, Incarnation, Millis, NodeId, RowKey, TableDef, TableOptions, WriteId,
};
use meridian_vfs::StdFs;

const WRITES: u32 = 500_000;
const KEYS: u32 = 100_000;
const HOT: u32 = 1000;
const NOW: Millis = Millis(1_700_000_000_000);

/// Prints nanoseconds of the wall clock, and, where the system counts them, of this thread on a
/// processor: on a machine that is shared only the second figure means anything.
fn measure(what: &str, times: u32, mut work: impl FnMut(u32)) {
    let (start, on_cpu) = (Instant::now(), on_cpu());
    for n in 0..times {
        work(n);
    }
    let each = |nanos: f64| nanos / f64::from(times);
    let wall = each(start.elapsed().as_secs_f64() * 1e9);
    let cpu = self::on_cpu().zip(on_cpu).map(|(after, before)| each(after - before));
    println!("{what:52} {wall:8.0} ns, on the processor {:8.0} ns", cpu.unwrap_or(f64::NAN));
}

/// Nanoseconds that this thread ran.
fn on_cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split(' ').next()?.parse().ok()
}

fn key(n: u32) -> String {
    format!("key:{n:012}")
}

fn value() -> Bytes {
    Bytes::from_static(&[b'x'; 100])
}

fn catalog() -> Catalog {
    let version = Version { stamp: Hlc(1), node: NodeId(1) };
    let mut catalog = Catalog::default();
    catalog.create_keyspace("ks", BTreeMap::from([("us".to_owned(), 3)]), version).unwrap();
    for (name, policy) in
        [("ks.siblings", ConflictPolicy::Siblings), ("ks.lww", ConflictPolicy::Lww)]
    {
        let options = TableOptions { policy, ..TableOptions::default() };
        catalog.create_table(&name.parse().unwrap(), options, version).unwrap();
    }
    catalog
}

fn open(dir: &Path) -> Store {
    let identity = Identity {
        cluster: "bench".to_owned(),
        node: NodeId(1),
        node_name: "us-1".to_owned(),
        dc: "us".to_owned(),
        rack: "a".to_owned(),
    };
    let options = StoreOptions { vnode_bits: 12, ..StoreOptions::default() };
    let metadata = Arc::new(MemMetadata::new());
    let fs = Arc::new(StdFs);
    let (store, _) =
        Store::open(fs, dir, metadata, identity, options, Incarnation(7), NOW).unwrap();
    store.join_catalog(&catalog()).unwrap();
    store
}

fn engine_alone(dir: &Path) {
    let trees = vec![TreeConfig::new("rows"), TreeConfig::new("clocks")];
    let (db, _) = Db::open(Arc::new(StdFs), dir, DbOptions::default(), trees).unwrap();
    let workers = Workers::start(&db, 2).unwrap();
    let (rows, clocks) = (db.tree("rows").unwrap(), db.tree("clocks").unwrap());
    let stored = |n: u32| {
        let mut stored = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
        stored.extend_from_slice(key(n).as_bytes());
        stored
    };
    measure("engine: put of row and dot, keys at random", WRITES, |n| {
        let mut batch = WriteBatch::with_capacity(256);
        batch.put(&rows, stored(n % KEYS), [b'x'; 122]);
        batch.put(&clocks, u64::from(n % 4096).to_be_bytes(), [1; 18]);
        db.write(batch).unwrap();
    });
    measure("engine: get of a hot key at a snapshot", WRITES, |n| {
        let snapshot = db.snapshot();
        black_box(rows.get(&stored(n % HOT), &snapshot).unwrap());
    });
    drop(workers);
    db.close().unwrap();
}

fn row(store: &Store, table: &TableDef, n: u32) -> RowKey {
    store.row_key(table, key(n).into())
}

fn lww(store: &Store, table: &TableDef) {
    measure("mint, lww, keys at random", WRITES, |n| {
        let write = LocalWrite { value: Some(value()), ..LocalWrite::default() };
        black_box(store.mint(&row(store, table, n % KEYS), write, NOW).unwrap());
    });
    measure("mint, lww, with a write id", WRITES, |n| {
        let write_id =
            Some(WriteId::from_bytes((u128::from(n) << 64 | u128::from(n)).to_be_bytes()));
        let write = LocalWrite { value: Some(value()), write_id, ..LocalWrite::default() };
        black_box(store.mint(&row(store, table, n % KEYS), write, NOW).unwrap());
    });
    let other = Actor { node: NodeId(2), incarnation: Incarnation(9) };
    let mut counters = BTreeMap::new();
    measure("apply, lww, keys at random", WRITES, |n| {
        let row = row(store, table, n % KEYS);
        let counter = counters.entry(row.vnode).or_insert(0);
        *counter += 1;
        let entry = Entry {
            dot: Dot::new(other, *counter),
            stamp: Hlc::new(NOW.plus(u64::from(n)), 0),
            expires: None,
            value: Some(value()),
        };
        let delta = Delta { entry, context: Context::default() };
        black_box(store.apply(&row, &delta, None, NOW.plus(u64::from(n))).unwrap());
    });
    measure("read, lww, hot", WRITES, |n| {
        black_box(store.read(&row(store, table, n % HOT)).unwrap());
    });
    measure("mint, lww, one key", WRITES, |_| {
        let write = LocalWrite { value: Some(value()), ..LocalWrite::default() };
        black_box(store.mint(&row(store, table, 0), write, NOW).unwrap());
    });
    measure("read, lww, the one key", WRITES, |_| {
        black_box(store.read(&row(store, table, 0)).unwrap());
    });
}

fn siblings(store: &Store, table: &TableDef) {
    measure("mint, siblings, without a context, new keys", KEYS, |n| {
        let write = LocalWrite { value: Some(value()), ..LocalWrite::default() };
        black_box(store.mint(&row(store, table, n), write, NOW).unwrap());
    });
    measure("read and mint with its context, siblings", WRITES, |n| {
        let row = row(store, table, n % KEYS);
        let version = store.read(&row).unwrap();
        let context = WriteContext::Seen(version.row.reader_context(&version.clock));
        let write = LocalWrite { value: Some(value()), context, ..LocalWrite::default() };
        black_box(store.mint(&row, write, NOW).unwrap());
    });
    measure("read, siblings, hot", WRITES, |n| {
        black_box(store.read(&row(store, table, n % HOT)).unwrap());
    });
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    engine_alone(&dir.path().join("engine"));
    let store = open(&dir.path().join("store"));
    measure("row_key: the token of a key", WRITES, {
        let table = store.table(table_id("ks.lww")).unwrap();
        let store = store.clone();
        move |n| {
            black_box(row(&store, &table, n));
        }
    });
    lww(&store, &store.table(table_id("ks.lww")).unwrap());
    siblings(&store, &store.table(table_id("ks.siblings")).unwrap());
    store.close().unwrap();
}

fn table_id(name: &str) -> meridian_types::TableId {
    catalog().table(&name.parse().unwrap()).unwrap().id
}
