//! The file `TREES`: what tables cannot say of themselves, beside the manifest in case that is
//! lost. Which trees there are and how they are set up, up to where each was flushed when that left
//! no table, which tables are part of the state, and which were replaced by nothing.
//!
//! A header as the manifest's with a magic of its own, and one record of changes in its format:
//! `NextIds`; `WalFloor` of segment 0 with the last write to a tree that was dropped; for each tree
//! `CreateTree`, `Flushed`, and a `MoveTable` for each of its tables; for each table that nothing
//! needs any more a `RemoveTable` of tree 0.
//!
//! INVARIANT: it is written under the manifest's lock behind the edit that asks for it, and before
//! anything relies on that (a tree written to, a file removed). Between two writes it may be old:
//! then the tables say what happened since.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use meridian_vfs::{Fs, read_all};

use super::edit::{self, Change};
use super::manifest::{RECORD_HEADER, record, record_at};
use super::state::State;
use crate::error::Error;
use crate::key::Seqno;

const FILE_MAGIC: &[u8; 8] = b"MRDNTRE\x01";

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("TREES")
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trees {
    /// Without tables; `last_seqno` is that of trees that were dropped.
    pub(crate) state: State,
    /// Tables of the state.
    pub(crate) tables: BTreeSet<u64>,
    /// Tables that may be found and are part of nothing.
    pub(crate) obsolete: BTreeSet<u64>,
}

impl Trees {
    /// Whether it knows all trees of a state as they are. What else it may lack, tables say.
    pub(crate) fn has_trees_of(&self, state: &State) -> bool {
        let records = |state: &State| {
            state.trees.values().map(|tree| tree.record.clone()).collect::<Vec<_>>()
        };
        records(&self.state) == records(state)
    }
}

/// Puts the file in place, durably.
pub(crate) fn write(
    fs: &dyn Fs,
    dir: &Path,
    state: &State,
    dropped: Seqno,
    obsolete: &[u64],
) -> Result<(), Error> {
    let mut bytes = FILE_MAGIC.to_vec();
    let record = record(bytes.len() as u64, &edit::encode(&changes(state, dropped, obsolete)));
    bytes.extend_from_slice(&record);
    let new = dir.join("TREES.new");
    let file = fs.create(&new)?;
    file.append(&bytes)?;
    file.sync_data()?;
    fs.rename(&new, &path(dir))?;
    Ok(fs.sync_dir(dir)?)
}

fn changes(state: &State, dropped: Seqno, obsolete: &[u64]) -> Vec<Change> {
    let mut changes = vec![
        Change::NextIds { table: state.next_table, tree: state.next_tree },
        Change::WalFloor { segment: 0, last: dropped },
    ];
    for (&tree, known) in &state.trees {
        changes.push(Change::CreateTree(known.record.clone()));
        changes.push(Change::Flushed { tree, seqno: known.flushed });
        let tables = known.tables.values();
        changes.extend(tables.map(|table| Change::MoveTable {
            tree,
            table: table.id,
            level: table.level,
        }));
    }
    changes.extend(obsolete.iter().map(|&table| Change::RemoveTable { tree: 0, table }));
    changes
}

/// What is there; `None` if it is missing or damaged.
pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Option<Trees>, Error> {
    let path = path(dir);
    if !fs.exists(&path)? {
        return Ok(None);
    }
    Ok(decode(&read_all(fs, &path)?))
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Trees> {
    let payload = record_at(bytes, FILE_MAGIC.len()).ok()?;
    let whole = bytes.len() == FILE_MAGIC.len() + RECORD_HEADER + payload.len();
    if !whole || !bytes.starts_with(FILE_MAGIC) {
        return None;
    }
    let mut trees = Trees::default();
    for change in edit::decode(payload).ok()? {
        match change {
            Change::MoveTable { table, .. } => {
                trees.tables.insert(table);
            }
            Change::RemoveTable { table, .. } => {
                trees.obsolete.insert(table);
            }
            change => trees.state.apply(&change).ok()?,
        }
    }
    Some(trees)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meridian_vfs::MemFs;
    use proptest::prelude::*;

    use super::*;
    use crate::options::TreeConfig;
    use crate::version::edit::{TableRecord, TableTimes, TreeRecord};

    fn state() -> State {
        let table = TableRecord {
            id: 4,
            level: 2,
            bytes: 9,
            digest: [0; 32],
            smallest: Bytes::new(),
            largest: Bytes::new(),
            min_seqno: 1,
            max_seqno: 2,
            entries: 1,
            deletes: 0,
            times: TableTimes::default(),
            blobs: Vec::new(),
        };
        let mut state = State { next_tree: 1, next_table: 9, ..State::default() };
        let record = TreeRecord::new(1, &TreeConfig::new("t"));
        state.apply(&Change::CreateTree(record)).unwrap();
        state.apply(&Change::Flushed { tree: 1, seqno: 200 }).unwrap();
        state.apply(&Change::AddTable { tree: 1, table }).unwrap();
        state
    }

    fn written() -> Vec<u8> {
        let (fs, dir) = (MemFs::new(), Path::new("/d"));
        fs.create_dir_all(dir).unwrap();
        write(&fs, dir, &state(), 7, &[3, 300]).unwrap();
        let found = load(&fs, dir).unwrap().unwrap();
        assert_eq!(found.state.trees[&1].record, state().trees[&1].record);
        assert_eq!((found.state.next_tree, found.state.next_table), (2, 9));
        assert_eq!((found.state.wal_floor, found.state.last_seqno), (0, 7));
        assert_eq!(found.state.trees[&1].flushed, 200);
        assert_eq!((found.tables, found.obsolete), ([4].into(), [3, 300].into()));
        read_all(&fs, &path(dir)).unwrap()
    }

    #[test]
    fn golden_bytes() {
        let hex: String = written().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "4d52444e54524501a76d651e2f0000000800000000000000b2aa0967b5d7fce7\
             0809020700070c010174008080802080400a01000000000104808080050a0000\
             0601c801050104020400030400ac02"
        );
    }

    proptest! {
        #[test]
        fn damage_is_noticed_and_arbitrary_bytes_never_panic(
            bytes: Vec<u8>,
            small in proptest::collection::vec(0..12u8, 0..100),
            at: usize,
            flip in 1u8..,
        ) {
            let _any = decode(&bytes);
            let mut file = FILE_MAGIC.to_vec();
            file.extend_from_slice(&record(8, &small));
            let _any = decode(&file);
            let mut damaged = written();
            let at = at % damaged.len();
            damaged[at] ^= flip;
            prop_assert_eq!(decode(&damaged), None);
            prop_assert_eq!(decode(&damaged[..at]), None);
        }
    }
}
