//! File, environment and flags become validated Options
#![deny(missing_docs)]
