//! Which tables make up each tree, in memory (`Version`) and on disk (the manifest).

pub(crate) mod blobs;
pub(crate) mod edit;
pub(crate) mod levels;
pub(crate) mod manifest;
pub(crate) mod state;
pub(crate) mod trees;

#[cfg(test)]
mod tests;
