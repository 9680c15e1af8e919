//! Three doors: RESP, REST and gRPC over one service
#![deny(missing_docs)]
