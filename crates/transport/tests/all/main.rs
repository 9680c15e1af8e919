//! Links between nodes in one process, on real sockets.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod handshake;
mod links;
mod support;
