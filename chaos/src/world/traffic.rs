//! What crosses links, counted by what it is for.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};

use meridian_coordinator::message::{ReplicaReply, ReplicaRequest};
use meridian_repair::message::{RepairReply, RepairRequest};
use meridian_wire::replica::PeerBody;

/// Messages, and their bytes as the wire has them, without the transport's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossed {
    /// How many messages.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl AddAssign for Crossed {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl Sub for Crossed {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let messages = self.messages.saturating_sub(other.messages);
        Self { messages, bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// What all links together took since the world began, by what it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic(BTreeMap<&'static str, Crossed>);

/// Purposes that are anti-entropy: comparisons of clocks, pulls, and their answers.
const ANTI_ENTROPY: [&str; 5] = ["compare", "compared", "pull", "page", "refused"];

impl Traffic {
    /// Counts a message.
    pub(super) fn count(&mut self, body: &PeerBody, bytes: usize) {
        *self.0.entry(purpose(body)).or_default() += Crossed { messages: 1, bytes: bytes as u64 };
    }

    /// By purpose, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Crossed)> {
        self.0.iter().map(|(purpose, crossed)| (*purpose, *crossed))
    }

    /// For one purpose.
    #[must_use]
    pub fn of(&self, purpose: &str) -> Crossed {
        self.0.get(purpose).copied().unwrap_or_default()
    }

    /// What replicas needed to compare and to pull.
    #[must_use]
    pub fn anti_entropy(&self) -> Crossed {
        let mut sum = Crossed::default();
        ANTI_ENTROPY.iter().for_each(|purpose| sum += self.of(purpose));
        sum
    }

    /// What was counted since an earlier look.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let since = self.iter().map(|(purpose, now)| (purpose, now - before.of(purpose)));
        Self(since.filter(|(_, crossed)| crossed.messages > 0).collect())
    }
}

fn purpose(body: &PeerBody) -> &'static str {
    match body {
        PeerBody::Request(ReplicaRequest::Write(write)) if write.hinted => "hint",
        PeerBody::Request(ReplicaRequest::Write(_)) => "write",
        PeerBody::Request(ReplicaRequest::Read { .. }) => "read",
        PeerBody::Request(_) => "other request",
        PeerBody::Reply(ReplicaReply::Written(_)) => "written",
        PeerBody::Reply(_) => "other reply",
        PeerBody::Repair(RepairRequest::Compare { .. }) => "compare",
        PeerBody::Repair(RepairRequest::Pull(_) | RepairRequest::PullMany(_)) => "pull",
        PeerBody::RepairReply(RepairReply::Same { .. } | RepairReply::Differs { .. }) => "compared",
        PeerBody::RepairReply(RepairReply::Page(_) | RepairReply::Pages(_)) => "page",
        PeerBody::RepairReply(RepairReply::Refused(_)) => "refused",
        PeerBody::Repair(RepairRequest::Evidence { .. }) => "evidence",
        PeerBody::RepairReply(RepairReply::Evidence(_)) => "evidence told",
        PeerBody::Catalog(_) | PeerBody::CatalogReply(_) => "catalog",
    }
}
