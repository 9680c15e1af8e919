//! What replicas say to each other while they find out what the other one lacks.

use bytes::Bytes;
use meridian_crdt::{Evidence, Row, VnodeClock};
use meridian_types::{Incarnation, KeyspaceId, PeerStanding, TableId, VnodeId};

/// From the puller to its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairRequest {
    /// Do our clocks differ, over all vnodes of the keyspace that we share?
    Compare {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Digest over the clocks of all shared vnodes, in their order.
        digest: u128,
        /// Whether the asker gave up hints for the asked, which therefore lacks writes that no
        /// hint will bring.
        gaps: bool,
        /// Whether the asker makes good what it may have lost: then the answer says also of sound
        /// vnodes that they had a loss once.
        losses: bool,
    },
    /// A page of the rows that the puller lacks.
    Pull(PullRequest),
    /// The first pages of several vnodes: most of what differs is a row here and there.
    PullMany(PullMany),
    /// What can the asked say of these vnodes to somebody who wants to forget?
    Evidence {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The layout that the asker knows.
        layout: u64,
        /// The vnodes.
        vnodes: Vec<VnodeId>,
    },
}

/// Asks for rows of several vnodes: for each what a [`PullRequest`] without a position asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullMany {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnodes, each with what the puller has of it.
    pub vnodes: Vec<(VnodeId, VnodeClock)>,
    /// Most bytes of rows, all vnodes together. There is at least one row, where there is any.
    pub max_bytes: usize,
}

/// Asks for rows of one vnode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// What the puller has: rows that are wholly covered by it and have no context are not sent.
    pub clock: VnodeClock,
    /// Where the page before ended.
    pub after: Option<PullPosition>,
    /// Whether rows that the puller has seen are wanted too: for rebuilding replicas and new
    /// owners (rule 7, full pull).
    pub full: bool,
    /// Most bytes of the page's rows. A page always has at least one row.
    pub max_bytes: usize,
}

/// Where a pull's page ended: table by table, each in the order of the ring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullPosition {
    /// The table.
    pub table: TableId,
    /// The key as the store orders it inside the table.
    pub at: Bytes,
}

/// From the peer to the puller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairReply {
    /// The digests are equal: all clocks are.
    Same {
        /// The shared vnodes that the peer is not sound for, in their order, as they were before
        /// their clocks were looked at.
        unsound: Vec<(VnodeId, PeerStanding)>,
    },
    /// They are not.
    Differs {
        /// Digests of the clocks of the shared vnodes, in their order.
        digests: Vec<(VnodeId, u128)>,
        /// As in [`Self::Same`].
        unsound: Vec<(VnodeId, PeerStanding)>,
    },
    /// A page.
    Page(PullPage),
    /// First pages of several vnodes, as many as fit: what is not named is asked for again.
    Pages(PulledPages),
    /// The peer does not serve pulls of this vnode now.
    Refused(String),
    /// What the peer says of vnodes.
    Evidence(ToldEvidence),
}

/// What a replica says to somebody who wants to forget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldEvidence {
    /// Its life: what is said does not outlive it.
    pub incarnation: Incarnation,
    /// The layout that it knows.
    pub layout: u64,
    /// What it says of each vnode; of one that it has lost something of, nothing.
    pub vnodes: Vec<(VnodeId, Evidence)>,
}

/// The first pages of several vnodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PulledPages {
    /// Vnodes of which the puller has everything that the peer has.
    pub covered: Vec<VnodeId>,
    /// The others, in the order that they were asked for in.
    pub pages: Vec<(VnodeId, PullPage)>,
}

/// A page of a pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullPage {
    /// The peer's clock, of the same storage sequence number as the rows: their coverage. That of
    /// the first page is what the puller joins after the last one.
    pub clock: VnodeClock,
    /// What the peer can prove of the vnode, at the instant of its clock.
    pub standing: PeerStanding,
    /// The rows.
    pub rows: Vec<PulledRow>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<PullPosition>,
}

/// A row of a pull's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledRow {
    /// Its table.
    pub table: TableId,
    /// Its key.
    pub key: Bytes,
    /// The peer's version of it.
    pub row: Row,
}
