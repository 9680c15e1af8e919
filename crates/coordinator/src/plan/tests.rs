use std::collections::BTreeSet;

use meridian_service::{DcShortfall, Effect, RequestError};
use meridian_topology::{KeyspaceMap, Placement, Shape};
use meridian_types::ConsistencyLevel as L;

use super::*;
use crate::message::Refusal;
use crate::route::{Route, route};
use crate::testing::{Cluster, HOME, LEVELS};
use crate::{Cause, Failure};

fn write(cluster: &Cluster, level: L, down: &[u32]) -> Result<WritePlan, RequestError> {
    let alive = |node: NodeId| !down.contains(&node.0);
    let (leader, replicas) = (cluster.leader(), cluster.replicas());
    WritePlan::new(level, HOME, leader, replicas, alive, &cluster.topology)
}

fn read(cluster: &Cluster, level: L, from: u32, down: &[u32]) -> Result<ReadPlan, RequestError> {
    let alive = |node: NodeId| !down.contains(&node.0);
    let home = cluster.dc_of(NodeId(from));
    ReadPlan::new(
        level,
        home,
        NodeId(from),
        cluster.replicas(),
        alive,
        |_| false,
        &cluster.topology,
    )
}

fn contacts(plan: &ReadPlan) -> Vec<u32> {
    plan.contacts().iter().map(|replica| replica.node.0).collect()
}

#[test]
fn a_datacenter_that_is_missing_is_named_with_its_numbers() {
    let cluster = Cluster::new(&[3, 3]);
    let error = write(&cluster, L::EachQuorum, &[11, 12]).unwrap_err();
    let missing =
        vec![DcShortfall { datacenter: "dc1".into(), required: 2, alive: 1, replicas: 3 }];
    assert_eq!(error, RequestError::Unavailable { level: L::EachQuorum, missing });
    assert_eq!(error.effect(), Effect::NotApplied);
    let error = write(&cluster, L::All, &[11]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ALL cannot be met: all datacenters together needs 6 of 6 replicas, 5 alive; \
         nothing was written"
    );
    let error = write(&Cluster::new(&[1]), L::Two, &[]).unwrap_err();
    assert!(error.to_string().contains("needs 2 of 1 replicas, 1 alive"), "{error}");
}

#[test]
fn levels_that_do_not_fit_say_why() {
    let cluster = Cluster::new(&[3]);
    let why = |result: Result<(), RequestError>| match result {
        Err(RequestError::Level { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    for level in [L::Serial, L::LocalSerial] {
        assert!(why(write(&cluster, level, &[]).map(drop)).starts_with("is not there yet"));
        assert!(why(read(&cluster, level, 1, &[]).map(drop)).starts_with("is not there yet"));
    }
    assert!(why(read(&cluster, L::Any, 1, &[]).map(drop)).contains("writes only"));
    let abroad = Cluster::with_replicas(&[1, 3], &[0, 3]);
    for level in [L::LocalOne, L::LocalQuorum] {
        assert!(why(read(&abroad, level, 1, &[]).map(drop)).contains("has none there"));
        assert!(why(routed(&abroad, level, 1, &[]).map(drop)).contains("has none there"));
    }
}

#[test]
fn a_write_that_its_coordinator_may_not_mint_is_refused() {
    let cluster = Cluster::with_replicas(&[3], &[2]);
    let other = cluster.topology.nodes().iter().find(|node| !cluster.replicas().contains(node.id));
    let other = other.unwrap().id;
    let replicas = cluster.replicas();
    let error = WritePlan::new(L::One, HOME, other, replicas, |_| true, &cluster.topology);
    let error = error.unwrap_err();
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(error.is_retryable() && error.to_string().contains("is no replica"), "{error}");
}

#[test]
fn reads_ask_the_nearest_that_suffice() {
    let cluster = Cluster::new(&[3, 3]);
    let home: Vec<u32> = cluster.replicas().in_dc(HOME).iter().map(|node| node.0).collect();
    for &me in &home {
        let nearest = |level, down: &[u32]| contacts(&read(&cluster, level, me, down).unwrap());
        assert_eq!(nearest(L::One, &[]), [me]);
        assert_eq!(nearest(L::LocalQuorum, &[]).len(), 2);
        assert_eq!(nearest(L::LocalQuorum, &[])[0], me);
        let quorum = nearest(L::Quorum, &[]);
        assert_eq!(quorum.iter().filter(|&&node| node < 10).count(), 3);
        assert_eq!(quorum.len(), 4);
        let each = nearest(L::EachQuorum, &[]);
        assert_eq!(each.iter().filter(|&&node| node < 10).count(), 2);
        assert_eq!(each.len(), 4);
        assert_eq!(nearest(L::All, &[]).len(), 6);
        let other = home.iter().copied().find(|&node| node != me).unwrap();
        assert!(!nearest(L::LocalQuorum, &[other]).contains(&other));
    }
    // Levels of one datacenter have no spares in another.
    let plan = read(&cluster, L::LocalQuorum, 1, &[]).unwrap();
    assert!(plan.replicas.iter().all(|replica| replica.node.0 < 10));
    assert_eq!((plan.contacts, plan.replicas.len()), (2, 3));
}

#[test]
fn a_bystander_reads_from_the_nearest_datacenter() {
    let shape = Shape::named("three-dc").unwrap();
    let topology = shape.topology();
    let [us, eu, ap] = ["us", "eu", "ap"].map(|name| topology.dc_id(name).unwrap());
    let map = KeyspaceMap::new([(eu, 3), (ap, 3)]);
    let placement = Placement::initial(topology, &map).unwrap();
    let me = topology.nodes_in(us).next().unwrap().id;
    let nearest = topology.nearest_dcs(us).iter().copied().find(|&dc| dc != us).unwrap();
    for vnode in placement.vnode_count().vnodes().take(50) {
        let replicas = placement.replicas(vnode);
        let plan = ReadPlan::new(L::Two, us, me, replicas, |_| true, |_| false, topology).unwrap();
        let asked: Vec<NodeId> = plan.contacts().iter().map(|replica| replica.node).collect();
        assert_eq!(asked, replicas.in_dc(nearest)[..2]);
        let to = route(Access::Write, L::One, us, me, replicas, |_| true, topology).unwrap();
        assert_eq!(to, Route::HandTo(replicas.in_dc(nearest)[0]));
    }
}

#[test]
fn a_replica_that_is_likely_to_refuse_is_asked_last_and_counts_all_the_same() {
    let cluster = Cluster::with_replicas(&[3, 3], &[3, 3]);
    let me = cluster.leader();
    let plan = |level, doubted: &[NodeId]| {
        let doubtful = |node: NodeId| doubted.contains(&node);
        let replicas = cluster.replicas();
        ReadPlan::new(level, HOME, me, replicas, |_| true, doubtful, &cluster.topology).unwrap()
    };
    for level in [L::One, L::LocalQuorum, L::Quorum] {
        let sure = plan(level, &[]);
        let asked: Vec<NodeId> = sure.contacts().iter().map(|replica| replica.node).collect();
        assert_eq!(asked[0], me);
        let wary = plan(level, &[me]);
        assert!(wary.contacts().iter().all(|replica| replica.node != me), "{level}");
        assert_eq!((wary.contacts, wary.replicas.len()), (sure.contacts, sure.replicas.len()));
        assert_eq!(wary.tally, sure.tally);
    }
    // What is known of them may be old.
    let all: Vec<NodeId> = cluster.replicas().all().to_vec();
    assert_eq!(plan(L::All, &all).contacts, all.len());
}

fn routed(cluster: &Cluster, level: L, me: u32, down: &[u32]) -> Result<Route, RequestError> {
    let alive = |node: NodeId| !down.contains(&node.0);
    let (me, home) = (NodeId(me), cluster.dc_of(NodeId(me)));
    route(Access::Write, level, home, me, cluster.replicas(), alive, &cluster.topology)
}

#[test]
fn writes_are_handed_to_a_replica_that_is_alive() {
    let cluster = Cluster::with_replicas(&[3, 2], &[2, 2]);
    let home: Vec<u32> = cluster.replicas().in_dc(HOME).iter().map(|node| node.0).collect();
    let me = (1..=3).find(|node| !home.contains(node)).unwrap();
    let abroad: Vec<u32> = cluster.replicas().in_dc(DcId(1)).iter().map(|node| node.0).collect();
    let [first, second] = home[..] else { panic!() };
    let hand = |node: u32| Ok(Route::HandTo(NodeId(node)));
    for level in LEVELS {
        assert_eq!(routed(&cluster, level, first, &[]), Ok(Route::Here));
        assert_eq!(routed(&cluster, level, me, &[]), hand(first));
        assert_eq!(routed(&cluster, level, me, &[first]), hand(second));
        let local = matches!(level, L::LocalOne | L::LocalQuorum);
        let away = routed(&cluster, level, me, &home);
        if local {
            assert!(matches!(away, Err(RequestError::Unavailable { .. })), "{away:?}");
        } else {
            assert_eq!(away, hand(abroad[0]));
        }
        let everybody: Vec<u32> = home.iter().chain(&abroad).copied().collect();
        let nobody = routed(&cluster, level, me, &everybody);
        if level == L::Any {
            assert_eq!(nobody, Ok(Route::StoreIntent));
        } else {
            let Err(RequestError::Unavailable { missing, .. }) = &nobody else {
                panic!("{nobody:?}")
            };
            assert!(!missing.is_empty() && missing.iter().all(|dc| dc.alive == 0));
        }
    }
}

#[test]
fn anybody_coordinates_reads() {
    let cluster = Cluster::with_replicas(&[3], &[1]);
    for node in 1..=3 {
        let (me, replicas) = (NodeId(node), cluster.replicas());
        let to = route(Access::Read, L::One, HOME, me, replicas, |_| false, &cluster.topology);
        assert_eq!(to, Ok(Route::Here));
    }
}

#[test]
fn failures_say_what_happened_to_the_data() {
    let cluster = Cluster::new(&[3]);
    let tally = write(&cluster, L::Quorum, &[]).unwrap().tally;
    let node = NodeId(2);
    let error = |cause, write| {
        let level = L::Quorum;
        Failure { level, write, cause, tally: tally.clone() }.into_error(&cluster.topology)
    };
    let refusal = Refusal::Overloaded;
    let cases = [
        (error(Cause::Silence, true), Effect::Unknown, "dc0 0 of 3 answered"),
        (error(Cause::Silence, false), Effect::NotApplied, "was not reached in time"),
        (
            error(Cause::Refused { node, refusal: refusal.clone() }, true),
            Effect::Unknown,
            "dc0-2: overloaded; the write may still appear",
        ),
        (
            error(Cause::NotMinted { node, refusal }, true),
            Effect::NotApplied,
            "overloaded; nothing was written",
        ),
        (
            error(Cause::NotMinted { node, refusal: Refusal::Storage("disk".into()) }, true),
            Effect::Unknown,
            "disk",
        ),
    ];
    for (error, effect, text) in cases {
        assert_eq!(error.effect(), effect, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn segments_cover_the_ring_and_their_vnodes_have_the_same_replicas() {
    let three = Shape::named("three-dc").unwrap();
    let some = KeyspaceMap::from_names(three.topology(), [("us", 2), ("eu", 1)]).unwrap();
    for (shape, map, one) in
        [("one-node", None, true), ("three-dc", None, true), ("three-dc", Some(some), false)]
    {
        let shape = Shape::named(shape).unwrap();
        let map = map.as_ref().unwrap_or(shape.replication());
        let placement = Placement::initial(shape.topology(), map).unwrap();
        let segments = Segments::of(&placement);
        let mut next = Some(0);
        for segment in segments.iter() {
            assert_eq!(Some(segment.first), next);
            next = segment.last.checked_add(1);
            for token in [segment.first, segment.last, segment.first / 2 + segment.last / 2] {
                assert_eq!(segments.at(token), Some(segment));
            }
        }
        assert_eq!(next, None);
        let count = placement.vnode_count();
        for vnode in count.vnodes() {
            let token = count.token_range(vnode).unwrap().start().high();
            let nodes = |vnode| -> BTreeSet<NodeId> {
                placement.replicas(vnode).all().iter().copied().collect()
            };
            assert_eq!(nodes(vnode), nodes(segments.at(token).unwrap().vnode));
        }
        // Where every node holds everything, one segment is all.
        assert_eq!(segments.iter().len() == 1, one);
    }
}
