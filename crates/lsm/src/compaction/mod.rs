//! Merging tables: what to merge is decided by pure code over a plain view (`view`, `choice`,
//! `leveled`), and done elsewhere (`stream`, `execute`).

pub(crate) mod choice;
pub(crate) mod execute;
pub(crate) mod leveled;
pub(crate) mod stream;
pub(crate) mod view;

#[cfg(test)]
mod tests;
