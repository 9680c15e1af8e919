//! The write-ahead log: one for all trees of a database.
//!
//! Segments of chunks; a chunk is what one `write` took from the commit buffer. Each chunk says
//! how much of its segment was durable before it, each segment how long the one before it was, so
//! that replay can tell a torn tail (never promised to anybody) from damage to what was durable.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod segment;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
