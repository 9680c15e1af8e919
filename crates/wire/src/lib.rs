//! Generated protobuf and its conversion
#![deny(missing_docs)]
