//! Files, directories, sync and rename behind a trait: the real disk, and one that can lose power
#![deny(missing_docs)]
