//! Dots, clocks, contexts, rows and their join
#![deny(missing_docs)]
