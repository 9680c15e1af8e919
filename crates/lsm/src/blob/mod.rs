//! Blob files: values from a threshold on, apart from their keys, so that compactions move
//! references instead of bytes (WiscKey, Lu et al. 2016; RocksDB's integrated BlobDB, Titan).
//! `docs/formats/lsm-blob.md` describes the bytes.
//!
//! A flush or a compaction puts values that are large enough into a blob file and a reference into
//! the table. Each table knows how many bytes of which file it refers to, so what of a file is alive
//! is the sum over the tables of a version: there is nothing else to keep count of. A file of which
//! much is garbage is collected by compactions: they write the values on that they find in it. A
//! file that no table refers to goes as tables do, when its last reader is gone.
//!
//! INVARIANT: a blob file is durable before a table that refers to it is, and in the manifest with
//! the same edit. A table holds the files that it refers to, and so does whoever reads it.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
