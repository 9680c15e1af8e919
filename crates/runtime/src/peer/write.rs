//! Copies of writes that other nodes minted.

use std::sync::Arc;

use meridian_coordinator::message::{ReplicaReply, ReplicaRequest, WriteDelta, Written};
use meridian_wire::replica::PeerBody;

use super::{Asker, encode};
use crate::node::Inner;
use crate::shares::Work;

impl Inner {
    /// Applies a copy of a write, passes it on inside this datacenter, and acknowledges it to
    /// whoever collects the acks.
    pub(super) fn take_copy(self: &Arc<Self>, asker: Asker, mut write: WriteDelta) {
        let forward_to = std::mem::take(&mut write.forward_to);
        let hinted = write.hinted.then(|| hint_bytes(&write));
        let applied = self.store.apply(&write.row, &write.delta, write.write_id, self.host.wall());
        let ack_to = Asker { node: write.reply_to, ..asker };
        if !forward_to.is_empty() {
            let body = PeerBody::Request(ReplicaRequest::Write(write));
            let copy = encode(asker.call, asker.trace, body);
            for node in forward_to {
                // A copy that cannot be passed on is missed by whoever collects the acks, and
                // becomes a hint there.
                if let Err(why) = self.send(node, asker.class, copy.clone()) {
                    tracing::debug!(peer = %self.name_of(node), ?why, "a copy was not passed on");
                }
            }
        }
        match applied {
            Ok(applied) => {
                let credit = hinted.map(|bytes| self.credit_after(bytes));
                let written = ReplicaReply::Written(Written { known: !applied.new, credit });
                self.answer_when_settled(ack_to, written, &applied.commit);
            }
            Err(error) => {
                let refused = ReplicaReply::Refused(self.refusal(&error));
                self.answer(ack_to, refused);
            }
        }
    }

    /// How many hints the asker may have under way after this one: none where hints have had their
    /// share, so that it pauses.
    fn credit_after(&self, bytes: u64) -> u32 {
        match self.shares.take(Work::Hints, bytes, self.host.now()) {
            0 => self.hint_credit.get(),
            _ => 0,
        }
    }
}

fn hint_bytes(write: &WriteDelta) -> u64 {
    let value = write.delta.entry.value.as_ref().map_or(0, bytes::Bytes::len);
    (write.row.key.len() + value) as u64
}
