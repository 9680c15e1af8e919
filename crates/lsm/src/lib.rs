//! An embedded ordered key-value store: WAL, memtables, SSTables, compaction, snapshots
#![deny(missing_docs)]
