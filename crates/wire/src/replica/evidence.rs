//! What replicas say to those who forget.

use std::collections::BTreeMap;

use meridian_crdt::{Actor, Evidence, Promise};
use meridian_repair::message::ToldEvidence;
use meridian_types::{Hlc, Incarnation, NodeId, VnodeId};

use super::WireFault;
use super::parts::clock;
use crate::v1;

impl From<&ToldEvidence> for v1::ToldEvidence {
    fn from(told: &ToldEvidence) -> Self {
        Self {
            incarnation: told.incarnation.0,
            layout: told.layout,
            vnodes: told.vnodes.iter().map(|(vnode, told)| of_vnode(*vnode, told)).collect(),
        }
    }
}

fn of_vnode(vnode: VnodeId, told: &Evidence) -> v1::VnodeEvidence {
    let one = |(actor, promise): (&Actor, &Promise)| v1::Promise {
        node: actor.node.0,
        incarnation: actor.incarnation.0,
        counter: promise.counter,
        stamp: promise.stamp.0,
    };
    v1::VnodeEvidence {
        vnode: vnode.0,
        clock: told.clock.to_bytes().into(),
        promises: told.promises.iter().map(one).collect(),
    }
}

impl TryFrom<v1::ToldEvidence> for ToldEvidence {
    type Error = WireFault;

    fn try_from(told: v1::ToldEvidence) -> Result<Self, WireFault> {
        let promise = |one: v1::Promise| {
            let (node, incarnation) = (NodeId(one.node), Incarnation(one.incarnation));
            let promise = Promise { counter: one.counter, stamp: Hlc(one.stamp) };
            (Actor { node, incarnation }, promise)
        };
        let of_vnode = |one: v1::VnodeEvidence| {
            let promises: BTreeMap<_, _> = one.promises.into_iter().map(promise).collect();
            let evidence = Evidence { clock: clock(&one.clock)?, promises };
            Ok((VnodeId(one.vnode), evidence))
        };
        let vnodes: Result<_, WireFault> = told.vnodes.into_iter().map(of_vnode).collect();
        let (incarnation, layout) = (Incarnation(told.incarnation), told.layout);
        Ok(Self { incarnation, layout, vnodes: vnodes? })
    }
}
