//! What can be wrong with a configuration. Nothing was started or changed when one is returned.

use std::path::PathBuf;

use meridian_topology::ShapeError;

use crate::Origin;

/// Why there are no options. Nothing was started or changed; correct the value and start again.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A file cannot be read.
    #[error("{what} {} cannot be read", path.display())]
    Unreadable {
        /// Which file this is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is longer than any configuration.
    #[error("{what} {} has {bytes} bytes; at most {limit} are allowed", path.display())]
    TooLong {
        /// Which file this is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
    /// The file is no TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key `{key}`; {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it was given.
        origin: Origin,
        /// The keys that there are at this place.
        known: String,
    },
    /// A value that is not possible.
    #[error("{origin}: `{key}` is {value}; allowed: {allowed}")]
    Invalid {
        /// The key.
        key: String,
        /// Its value; `(hidden)` for a secret.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// What is allowed.
        allowed: String,
    },
    /// A key without which nothing can start.
    #[error(
        "`{key}` is not set{place}; {how} (or set {variable} in the environment, or pass --set \
         {key}=...)"
    )]
    Missing {
        /// The key.
        key: String,
        /// The file that was read, as ` in <path>`; empty where none was.
        place: String,
        /// What to write there.
        how: String,
        /// The variable that sets the same key.
        variable: String,
    },
    /// Two values that are possible, but not together.
    #[error("{origin}: `{key}` is {value}, but {conflict}")]
    Conflict {
        /// The key to change.
        key: String,
        /// Its value.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// The other value, and what is allowed.
        conflict: String,
    },
    /// The shape of the cluster is not usable.
    #[error("{origin}: `cluster.shape`{file}: {error}")]
    Shape {
        /// Where it was given.
        origin: Origin,
        /// The shape file, as ` (<path>)`; empty for a shape that comes with the program.
        file: String,
        /// What is wrong with it.
        error: Box<ShapeError>,
    },
}
