//! Pull sessions: clock exchange and missing dots.
#![deny(missing_docs)]

pub mod message;
