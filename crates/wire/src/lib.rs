//! The contracts of `proto/meridian/v1` as Rust types, and their conversion to the types that the
//! rest of the house works with.
//!
//! [`v1`] is generated; [`client`] converts what clients and nodes say to each other, [`replica`]
//! what nodes say among themselves. `link.proto` needs no conversion, as links carry opaque bytes;
//! [`link`] has its one message that is not generated. [`why`] says why a call came to nothing.
//!
//! Knows: field numbers, and what of a message is malformed.
//! Must not know: what a request means, who serves it. A conversion decides nothing, keeps no state
//! and does no I/O.
//!
//! Invariants:
//! - What is encoded here decodes to an equal value.
//! - Arbitrary bytes decode to a typed error or to a value that could have been sent; they never
//!   panic.
#![deny(missing_docs)]

mod causes;
pub mod client;
pub mod link;
pub mod replica;

pub use causes::{causes, why};

/// Generated from `proto/meridian/v1/*.proto`, where every message is described.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::use_self,
        reason = "generated code"
    )]

    tonic::include_proto!("meridian.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of all contracts, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
