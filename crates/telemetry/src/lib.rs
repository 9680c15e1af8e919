//! Names of metrics and span fields, in one place
#![deny(missing_docs)]
