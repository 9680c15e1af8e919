//! What is done to every decoder with bytes from anywhere: a typed error or an answer, never a
//! panic, a hang or a huge allocation. `fuzz/` gives these bodies to a fuzzer; the tests give them
//! arbitrary bytes and changed sound files.
//!
//! Everything stored has a checksum, behind which a fuzzer alone never comes. So most bodies also
//! take their input as changes to a sound file whose checksums are put right afterwards.

#![allow(clippy::missing_panics_doc, reason = "to panic is how a finding is told")]

mod changed;
mod database;
mod files;
mod parts;

#[cfg(test)]
mod tests;

pub use database::{database, repaired};
pub use files::{backup_list, blob, manifest, segment, table, trees};
pub use parts::{
    batch, block, chunk_header, compressed, filter, footer, index, manifest_edits, metadata,
};

/// A decoder's body.
pub type Body = fn(&[u8]);

/// All of them, by the names that the fuzz targets have.
pub const BODIES: [(&str, Body); 17] = [
    ("backup_list", backup_list),
    ("batch", batch),
    ("blob", blob),
    ("block", block),
    ("chunk_header", chunk_header),
    ("compressed", compressed),
    ("database", database),
    ("filter", filter),
    ("footer", footer),
    ("index", index),
    ("manifest", manifest),
    ("manifest_edits", manifest_edits),
    ("metadata", metadata),
    ("repaired", repaired),
    ("segment", segment),
    ("table", table),
    ("trees", trees),
];
