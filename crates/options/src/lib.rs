//! File, environment and flags become validated [`Options`].
//!
//! Three layers, the later wins: a TOML file, environment variables `MERIDIAN_SECTION__KEY`, and
//! `--set section.key=value`. [`KEYS`] is the one table of every key with its default, bounds and
//! reason; validation, error texts, `meridian config check` and `docs/configuration.md` all read
//! it.
//!
//! Knows: keys, where each value came from, which values are possible together.
//! Must not know: what options do.
//!
//! Invariants:
//! - [`Options`] are total and consistent: whoever holds one need not check it again.
//! - Every error names the key, where its value came from (file and line, variable or flag) and
//!   what is allowed. Secrets are in no error, `Debug` output or listing.
#![deny(missing_docs)]

mod check;
mod error;
mod keys;
mod options;
mod raw;
mod reference;
mod source;
mod validate;
mod value;

#[cfg(test)]
mod tests;

pub use check::{Effective, Loaded};
pub use error::OptionsError;
pub use keys::{Default, KEYS, Key, Kind};
pub use options::{
    ClusterOptions, DoorsOptions, ForgettingOptions, LimitsOptions, LinksOptions, LogFormat,
    NodeOptions, Options, ReplicationOptions, Secret, StorageOptions, SyncPolicy, TelemetryOptions,
};
pub use reference::reference;
pub use source::{Origin, Sources};
