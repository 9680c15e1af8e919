//! The Rust SDK
#![deny(missing_docs)]
