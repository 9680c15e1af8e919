//! What it costs to write and to read a message between nodes.
//!
//! `cargo run --release -p meridian-wire --example codec`
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that prints its result"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use meridian_coordinator::message::{ReplicaReply, ReplicaRequest, WriteDelta, Written};
use meridian_crdt::{Actor, Context, Delta, Dot, Entry, Row, RowVersion, VnodeClock};
use meridian_types::{
    Epoch, Hlc, Incarnation, KeyspaceId, Millis, NodeId, RequestId, RowKey, TableId, VnodeId,
    WriteId,
};
use meridian_wire::replica::{PeerBody, PeerMessage};

const ROUNDS: u32 = 1_000_000;

fn dot(node: u32) -> Dot {
    let actor = Actor { node: NodeId(node), incarnation: Incarnation(0x0123_4567_89ab_cdef) };
    Dot::new(actor, 100_000)
}

fn entry() -> Entry {
    let stamp = Hlc::new(Millis(1_790_000_000_000), 3);
    Entry { dot: dot(1), stamp, expires: None, value: Some(vec![7; 100].into()) }
}

fn write() -> PeerBody {
    PeerBody::Request(ReplicaRequest::Write(WriteDelta {
        row: RowKey {
            keyspace: KeyspaceId(1),
            table: TableId(0x1234_5678),
            vnode: VnodeId(1_000),
            key: Bytes::from_static(b"key:000000012345"),
        },
        delta: Delta { entry: entry(), context: Context::default() },
        write_id: Some(WriteId::from_bytes([9; 16])),
        forward_to: vec![NodeId(2), NodeId(3)],
        reply_to: NodeId(1),
        hinted: false,
        epoch: Epoch(1),
    }))
}

fn row() -> PeerBody {
    let mut clock = VnodeClock::default();
    for node in 1..=9 {
        clock.insert(dot(node));
    }
    let row = Row::new([entry()], Context::default());
    PeerBody::Reply(ReplicaReply::Row(RowVersion { row, clock: Arc::new(clock) }))
}

fn measure(name: &str, body: PeerBody) {
    let trace = Some(RequestId::from_bytes([5; 16]));
    let message = PeerMessage { call: 1 << 40, trace, deadline_ms: None, body };
    let bytes = message.encode();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(black_box(&message).encode());
    }
    let encode = start.elapsed() / ROUNDS;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(PeerMessage::decode(black_box(&bytes).clone()).unwrap());
    }
    let decode = start.elapsed() / ROUNDS;
    println!("{name}: {} bytes, written in {encode:?}, read in {decode:?}", bytes.len());
}

fn main() {
    measure("write of 100 bytes", write());
    measure("acknowledgement   ", PeerBody::Reply(ReplicaReply::Written(Written::default())));
    measure("row of 100 bytes  ", row());
}
