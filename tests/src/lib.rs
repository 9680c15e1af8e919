//! Starts real clusters for the black-box tests.
#![deny(missing_docs)]
