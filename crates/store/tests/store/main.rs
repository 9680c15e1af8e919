//! A store as its callers see it, over a file system in memory that loses power, lies and is torn.

#![allow(
    clippy::unwrap_used,
    reason = "what does not unwrap here is the failure that is looked for"
)]

mod basics;
mod compaction;
mod damage;
mod driven;
mod forgetting;
mod lives;
mod lost;
mod model;
mod pulls;
mod reservations;
mod sessions;
mod states;
mod sweeps;
mod threads;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_crdt::{ConflictPolicy, Context, Row};
use meridian_store::{
    Identity, LocalWrite, MemMetadata, Minted, Opened, Store, StoreError, StoreOptions,
    WriteContext,
};
use meridian_types::catalog::Version;
use meridian_types::{
    Catalog, Hlc, Incarnation, Millis, NodeId, RowKey, TableDef, TableId, TableOptions,
};
use meridian_vfs::MemFs;

const DIR: &str = "/data";
const NOW: Millis = Millis(1_700_000_000_000);

/// A store, and the disks that it is on.
struct Node {
    number: u32,
    fs: MemFs,
    metadata: MemMetadata,
    store: Store,
    opened: Opened,
}

fn identity(number: u32) -> Identity {
    Identity {
        cluster: "test".to_owned(),
        node: NodeId(number),
        node_name: format!("us-{number}"),
        dc: "us".to_owned(),
        rack: "a".to_owned(),
    }
}

/// Without threads, so that a run is the same every time; and small.
fn options() -> StoreOptions {
    StoreOptions {
        workers: 0,
        vnode_bits: 1,
        memtable_bytes: 64 << 10,
        total_memtable_bytes: 1 << 20,
        block_cache_bytes: 1 << 20,
        ..StoreOptions::default()
    }
}

fn open_with(
    number: u32,
    fs: &MemFs,
    metadata: &MemMetadata,
    options: StoreOptions,
    fresh: u64,
) -> Result<(Store, Opened), StoreError> {
    let (fs, metadata) = (Arc::new(fs.clone()), Arc::new(metadata.clone()));
    let fresh = Incarnation(fresh);
    Store::open(fs, Path::new(DIR), metadata, identity(number), options, fresh, NOW)
}

impl Node {
    /// A new node with the test's tables.
    fn new(number: u32) -> Self {
        Self::on(number, MemFs::new(), MemMetadata::new(), 1000 + u64::from(number))
    }

    fn on(number: u32, fs: MemFs, metadata: MemMetadata, fresh: u64) -> Self {
        let (store, opened) = open_with(number, &fs, &metadata, options(), fresh).unwrap();
        store.join_catalog(&catalog()).unwrap();
        Self { number, fs, metadata, store, opened }
    }

    /// Closes it in order and starts it again.
    fn restarted(self, fresh: u64) -> Self {
        self.store.close().unwrap();
        Self::on(self.number, self.fs, self.metadata, fresh)
    }

    fn table(&self, name: &str) -> Arc<TableDef> {
        self.store.table(table(name)).unwrap()
    }

    fn row(&self, name: &str, key: &str) -> RowKey {
        self.store.row_key(&self.table(name), Bytes::copy_from_slice(key.as_bytes()))
    }

    fn put(&self, table: &str, key: &str, value: &str, context: WriteContext) -> Minted {
        self.store.mint(&self.row(table, key), write(value, context), NOW).unwrap()
    }

    fn read(&self, table: &str, key: &str) -> Row {
        self.store.read(&self.row(table, key)).unwrap().row
    }

    /// What a reader holds after reading.
    fn token(&self, table: &str, key: &str) -> Context {
        let version = self.store.read(&self.row(table, key)).unwrap();
        version.row.reader_context(&version.clock)
    }
}

fn write(value: &str, context: WriteContext) -> LocalWrite {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    LocalWrite { value, context, ..LocalWrite::default() }
}

/// The values that a reader sees, in their order.
fn values(row: &Row) -> Vec<String> {
    let mut values: Vec<String> = row
        .visible(NOW)
        .map(|entry| String::from_utf8(entry.value.as_ref().unwrap().to_vec()).unwrap())
        .collect();
    values.sort();
    values
}

fn table(name: &str) -> TableId {
    catalog().table(&name.parse().unwrap()).unwrap().id
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
