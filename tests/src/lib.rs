//! Black box: real processes, real sockets
#![deny(missing_docs)]
