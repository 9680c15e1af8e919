//! Arbitrary messages of replicas that find out what the other one lacks.

use meridian_crdt::{Actor, Evidence, Promise};
use meridian_repair::message::{
    PullMany, PullPage, PullPosition, PullRequest, PulledPages, PulledRow, ToldEvidence,
};
use meridian_types::{Hlc, Incarnation, KeyspaceId, NodeId, PeerStanding, TableId, VnodeId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::strategies::{bytes, clock, row, standing, text};
use crate::replica::*;

fn pull_position() -> impl Strategy<Value = PullPosition> {
    (any::<u32>(), bytes()).prop_map(|(table, at)| PullPosition { table: TableId(table), at })
}

pub(super) fn repair_request() -> impl Strategy<Value = RepairRequest> {
    prop_oneof![
        any::<(u32, u128, bool, bool)>().prop_map(|(keyspace, digest, gaps, losses)| {
            RepairRequest::Compare { keyspace: KeyspaceId(keyspace), digest, gaps, losses }
        }),
        (any::<(u32, u32, bool, usize)>(), clock(), option::of(pull_position())).prop_map(
            |((keyspace, vnode, full, max_bytes), clock, after)| {
                RepairRequest::Pull(PullRequest {
                    keyspace: KeyspaceId(keyspace),
                    vnode: VnodeId(vnode),
                    clock,
                    after,
                    full,
                    max_bytes,
                })
            }
        ),
        (any::<(u32, usize)>(), vec((any::<u32>(), clock()), 0..4)).prop_map(
            |((keyspace, max_bytes), vnodes)| {
                let vnodes = vnodes.into_iter().map(|(vnode, clock)| (VnodeId(vnode), clock));
                let (keyspace, vnodes) = (KeyspaceId(keyspace), vnodes.collect());
                RepairRequest::PullMany(PullMany { keyspace, vnodes, max_bytes })
            }
        ),
        (any::<(u32, u64)>(), vec(any::<u32>(), 0..4)).prop_map(|((keyspace, layout), vnodes)| {
            let (keyspace, vnodes) = (KeyspaceId(keyspace), vnodes.into_iter().map(VnodeId));
            RepairRequest::Evidence { keyspace, layout, vnodes: vnodes.collect() }
        }),
    ]
}

fn unsound() -> impl Strategy<Value = Vec<(VnodeId, PeerStanding)>> {
    vec((any::<u32>().prop_map(VnodeId), standing()), 0..5)
}

fn told_evidence() -> impl Strategy<Value = ToldEvidence> {
    let promise = any::<(u32, u64, u64, u64)>().prop_map(|(node, incarnation, counter, stamp)| {
        let (node, incarnation) = (NodeId(node), Incarnation(incarnation));
        (Actor { node, incarnation }, Promise { counter, stamp: Hlc(stamp) })
    });
    let promises = vec(promise, 0..3).prop_map(|promises| promises.into_iter().collect());
    let evidence = (clock(), promises).prop_map(|(clock, promises)| Evidence { clock, promises });
    let vnode = (any::<u32>(), evidence).prop_map(|(vnode, told)| (VnodeId(vnode), told));
    (any::<(u64, u64)>(), vec(vnode, 0..3)).prop_map(|((incarnation, layout), vnodes)| {
        ToldEvidence { incarnation: Incarnation(incarnation), layout, vnodes }
    })
}

fn pull_page() -> impl Strategy<Value = PullPage> {
    let pulled = (any::<u32>(), bytes(), row()).prop_map(|(table, key, row)| PulledRow {
        table: TableId(table),
        key,
        row,
    });
    (clock(), standing(), vec(pulled, 0..4), option::of(pull_position()))
        .prop_map(|(clock, standing, rows, next)| PullPage { clock, standing, rows, next })
}

pub(super) fn repair_reply() -> impl Strategy<Value = RepairReply> {
    prop_oneof![
        unsound().prop_map(|unsound| RepairReply::Same { unsound }),
        (vec(any::<(u32, u128)>(), 0..5), unsound()).prop_map(|(digests, unsound)| {
            let one = |(vnode, digest)| (VnodeId(vnode), digest);
            RepairReply::Differs { digests: digests.into_iter().map(one).collect(), unsound }
        }),
        pull_page().prop_map(RepairReply::Page),
        (vec(any::<u32>(), 0..4), vec((any::<u32>(), pull_page()), 0..3)).prop_map(
            |(covered, pages)| {
                let covered = covered.into_iter().map(VnodeId).collect();
                let pages = pages.into_iter().map(|(vnode, page)| (VnodeId(vnode), page));
                RepairReply::Pages(PulledPages { covered, pages: pages.collect() })
            }
        ),
        text().prop_map(RepairReply::Refused),
        told_evidence().prop_map(RepairReply::Evidence),
    ]
}
