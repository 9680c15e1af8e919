use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_store::{
    Identity, LocalWrite, LogMode, Metadata, Opened, Store, StoreError, StoreOptions, SyncPolicy,
};
use meridian_types::catalog::Version;
use meridian_types::{
    Catalog, Incarnation, Millis, NodeId, RowKey, TableDef, TableName, TableOptions,
};
use meridian_vfs::read_all;

use super::*;
use crate::sim::{Purpose, Streams};

const NOW: Millis = Millis(1_767_225_600_000);

fn disk() -> Disk {
    Disk::new(DiskTiming::default(), Streams::new(1).draw(Purpose::Disk(NodeId(1))))
}

/// One life on a disk.
struct Life {
    store: Store,
    opened: Opened,
}

impl Life {
    fn begin(disk: &Disk, incarnation: u64) -> Result<Self, StoreError> {
        Self::with(disk, incarnation, LogMode::Inline)
    }

    fn with(disk: &Disk, incarnation: u64, log: LogMode) -> Result<Self, StoreError> {
        let [cluster, node_name, dc, rack] = ["test", "us-1", "us", "a"].map(str::to_owned);
        let options = StoreOptions {
            sync: SyncPolicy::Always,
            log,
            workers: 0,
            vnode_bits: 0,
            memtable_bytes: 64 << 10,
            total_memtable_bytes: 1 << 20,
            block_cache_bytes: 1 << 20,
            ..StoreOptions::default()
        };
        let (store, opened) = Store::open(
            disk.fs(),
            Path::new("/data"),
            Arc::new(disk.metadata()),
            Identity { cluster, node: NodeId(1), node_name, dc, rack },
            options,
            Incarnation(incarnation),
            NOW,
        )?;
        let mut catalog = Catalog::default();
        let replication = BTreeMap::from([("us".to_owned(), 1)]);
        catalog.create_keyspace("ks", replication, Version::default()).unwrap();
        catalog.create_table(&name(), TableOptions::default(), Version::default()).unwrap();
        store.join_catalog(&catalog)?;
        Ok(Self { store, opened })
    }

    fn row(&self, key: &str) -> RowKey {
        let catalog = self.store.catalog();
        let table: &TableDef = catalog.table(&name()).unwrap();
        self.store.row_key(table, Bytes::copy_from_slice(key.as_bytes()))
    }

    fn put(&self, key: &str) -> Result<(), StoreError> {
        self.put_bytes(key, 5)
    }

    fn put_bytes(&self, key: &str, bytes: usize) -> Result<(), StoreError> {
        let write = LocalWrite { value: Some(vec![b'v'; bytes].into()), ..LocalWrite::default() };
        self.store.mint(&self.row(key), write, NOW)?;
        Ok(())
    }

    fn put_for_good(&self, key: &str) {
        self.put(key).unwrap();
        self.store.sync().unwrap();
    }

    fn has(&self, key: &str) -> bool {
        self.store.read(&self.row(key)).unwrap().row.visible(NOW).count() > 0
    }
}

fn name() -> TableName {
    "ks.t".parse().unwrap()
}

#[test]
fn a_killed_process_loses_nothing_and_a_power_cut_after_it_may() {
    let mut disk = disk();
    let life = Life::begin(&disk, 1).unwrap();
    life.put_for_good("kept");
    life.put("at risk").unwrap();
    disk.crash(Loss::Nothing);
    life.put("in nobody's sight").unwrap();
    let next = Life::begin(&disk, 2).unwrap();
    assert!(!next.opened.clean && next.opened.new_incarnation && !next.opened.data_lost);
    assert!(next.has("kept") && next.has("at risk") && !next.has("in nobody's sight"));

    let mut disk = self::disk();
    let life = Life::begin(&disk, 1).unwrap();
    life.put_for_good("kept");
    life.put("at risk").unwrap();
    disk.crash(Loss::Nothing);
    disk.crash(Loss::Unsynced);
    let next = Life::begin(&disk, 2).unwrap();
    assert!(next.has("kept") && !next.has("at risk"));
}

#[test]
fn what_a_life_finds_written_a_power_cut_does_not_take_from_under_what_it_writes() {
    let mut disk = disk();
    let life = Life::begin(&disk, 1).unwrap();
    life.put("found").unwrap();
    disk.crash(Loss::Nothing);
    let next = Life::begin(&disk, 2).unwrap();
    assert!(next.has("found"));
    next.put_for_good("added");
    for loss in (0..50).map(Loss::Torn).chain([Loss::Unsynced]) {
        let mut disk = Disk { content: disk.content.after(loss), ..self::disk() };
        disk.crash(Loss::Nothing);
        let last = Life::begin(&disk, 3).unwrap();
        assert!(last.has("found") && last.has("added"), "{loss:?}");
    }
}

#[test]
fn a_torn_disk_keeps_what_was_synced_and_the_same_rest_for_the_same_seed() {
    let disk = disk();
    let life = Life::begin(&disk, 1).unwrap();
    life.put_for_good("kept");
    let keys: Vec<String> = (0..20).map(|number| format!("at risk {number}")).collect();
    keys.iter().for_each(|key| life.put(key).unwrap());
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let left = [(), ()].map(|()| {
            let mut torn = Disk { content: disk.content.after(Loss::Torn(seed)), ..self::disk() };
            torn.crash(Loss::Nothing);
            let next = Life::begin(&torn, 2).unwrap();
            assert!(next.has("kept"));
            keys.iter().take_while(|key| next.has(key)).count()
        });
        assert_eq!(left[0], left[1]);
        seen.insert(left[0]);
    }
    assert!(seen.len() > 5 && seen.contains(&0), "{seen:?}");
}

#[test]
fn a_cut_at_a_sync_breaks_no_promise() {
    for moment in [SyncMoment::Before, SyncMoment::After] {
        let mut disk = disk();
        let life = Life::with(&disk, 1, LogMode::Driven).unwrap();
        let driver = life.store.log_driver().unwrap();
        life.put("kept").unwrap();
        driver.sync().unwrap();
        life.put("cut").unwrap();
        disk.cut_at_sync(1, moment, Loss::Unsynced);
        let metadata = disk.metadata();
        metadata.put(b"not flushed", b"").unwrap();
        assert!(!disk.is_cut());
        assert!(driver.sync().is_err(), "nobody is told that it was synced");
        assert!(disk.is_cut());
        assert!(life.put("after").is_err() && metadata.flush().is_err());
        disk.crash(Loss::Nothing);
        assert!(!disk.is_cut());
        let next = Life::begin(&disk, 2).unwrap();
        assert!(next.has("kept") && !next.has("after"));
        assert_eq!(next.has("cut"), moment == SyncMoment::After);
        assert!(disk.metadata().get(b"not flushed").unwrap().is_none());
    }
}

#[test]
fn every_sync_of_a_start_may_be_the_last() {
    let mut cut = 0;
    loop {
        let mut disk = disk();
        Life::begin(&disk, 1).unwrap().put_for_good("kept");
        disk.crash(Loss::Unsynced);
        let moment = [SyncMoment::Before, SyncMoment::After][cut % 2];
        disk.cut_at_sync(1 + cut as u64 / 2, moment, Loss::Torn(cut as u64));
        let second = Life::begin(&disk, 2);
        if !disk.is_cut() {
            assert!(second.is_ok() && cut > 4);
            return;
        }
        disk.crash(Loss::Nothing);
        assert!(Life::begin(&disk, 3).unwrap().has("kept"));
        cut += 1;
    }
}

#[test]
fn each_part_is_wiped_and_restored_by_itself() {
    let begun = || {
        let disk = disk();
        Life::begin(&disk, 1).unwrap().put_for_good("old");
        disk
    };
    let mut disk = begun();
    disk.wipe(Part::Both);
    let next = Life::begin(&disk, 2).unwrap();
    assert!(next.opened.clean && !next.has("old"), "it is as on its first day");

    let mut disk = begun();
    disk.wipe(Part::Data);
    let next = Life::begin(&disk, 2).unwrap();
    assert!(next.opened.data_lost && !next.has("old"));

    let mut disk = begun();
    disk.wipe(Part::Metadata);
    let next = Life::begin(&disk, 2).unwrap();
    assert!(next.opened.new_incarnation && next.has("old"));

    let mut disk = begun();
    let snapshot = disk.snapshot();
    disk.crash(Loss::Nothing);
    Life::begin(&disk, 2).unwrap().put_for_good("new");
    for part in [Part::Data, Part::Both] {
        disk.restore(&snapshot, part);
        let next = Life::begin(&disk, 3).unwrap();
        assert!(next.has("old") && !next.has("new"));
        assert_eq!(next.opened.data_lost, part == Part::Data);
        next.put_for_good("newer");
    }
}

#[test]
fn a_full_disk_refuses_over_the_ends_of_lives_and_takes_again_what_has_room() {
    let mut disk = disk();
    let life = Life::with(&disk, 1, LogMode::Driven).unwrap();
    let driver = life.store.log_driver().unwrap();
    life.put("kept").unwrap();
    driver.sync().unwrap();
    // More than the log has room for already: less would go into that.
    life.put_bytes("waits", 100 << 10).unwrap();
    disk.set_quota(Some(0));
    assert!(driver.sync().is_err());
    assert!(life.put("refused").is_err());
    assert!(life.has("kept") && life.has("waits"));
    disk.set_quota(None);
    driver.sync().unwrap();
    life.put("taken").unwrap();
    driver.sync().unwrap();
    disk.set_quota(Some(0));
    disk.crash(Loss::Unsynced);
    assert_eq!(disk.data().quota(), Some(0));
    assert!(Life::begin(&disk, 2).is_err(), "a start has something to write");
    disk.set_quota(None);
    let next = Life::begin(&disk, 3).unwrap();
    assert!(["kept", "waits", "taken"].iter().all(|key| next.has(key)));
}

#[test]
fn rot_is_one_bit_of_what_it_says() {
    let disk = disk();
    assert_eq!(disk.rot(Rot::Table, 1), None);
    assert_eq!(disk.rot(Rot::Log, 1), None);
    let life = Life::begin(&disk, 1).unwrap();
    life.put_for_good("kept");
    assert_eq!(disk.rot(Rot::Log, 1), None, "the last segment is not sealed");
    life.store.flush().unwrap();
    let before = disk.snapshot();
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let was = disk.snapshot();
        let rotten = disk.rot(Rot::Table, seed).unwrap();
        assert!(Rot::Table.is_of(&rotten.path));
        for (path, _) in disk.data().files() {
            let read = |fs: &MemFs| read_all(fs, &path).unwrap();
            let (now, was) = (read(disk.data()), read(&was.data));
            let flipped = now.iter().zip(&was).map(|(now, was)| (now ^ was).count_ones());
            assert_eq!(flipped.sum::<u32>(), u32::from(path == rotten.path), "{path:?}");
        }
        let again = Disk { content: was.content(), ..self::disk() };
        assert_eq!(again.rot(Rot::Table, seed).as_ref(), Some(&rotten));
        seen.insert(rotten.bit);
    }
    assert!(seen.len() > 40);
    // A flipped bit is found.
    let mut fresh = Disk { content: before.content(), ..self::disk() };
    let _rotten = fresh.rot(Rot::Table, 7).unwrap();
    fresh.crash(Loss::Nothing);
    let found = Life::begin(&fresh, 2).map(|life| {
        let is_told = !life.opened.lost.is_empty() || life.opened.reset_vnodes > 0;
        is_told || life.store.verify().is_err()
    });
    assert!(found.unwrap_or(true));
}

impl DiskSnapshot {
    fn content(&self) -> Content {
        Content { data: self.data.fork(), metadata: self.metadata.fork() }
    }
}
