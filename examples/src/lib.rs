//! One idea each, runnable
#![deny(missing_docs)]
