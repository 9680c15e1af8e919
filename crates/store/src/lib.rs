//! A replica's own room: rows, vnode clocks, hints, identity
#![deny(missing_docs)]
