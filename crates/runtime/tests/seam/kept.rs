//! Writes that are kept until they are done (rule 14): atomic batches, intents of ANY.

use meridian_service::{AtomicBatch, TableWrite};

use super::*;

fn write(key: &str, value: &str) -> TableWrite {
    let Request::Put(Put { table, item, .. }) = put(key, value, ConsistencyLevel::One) else {
        panic!("a put is a put");
    };
    TableWrite { table, item }
}

fn batch(keys: &[&str], value: &str) -> Request {
    let writes = keys.iter().map(|key| write(key, value)).collect();
    Request::AtomicBatch(AtomicBatch { writes, consistency: ConsistencyLevel::Quorum })
}

#[test]
fn an_atomic_batch_is_written_whole_and_forgotten() {
    let cluster = Cluster::of(5);
    for node in 1..=5 {
        let value = format!("from {node}");
        let keys = ["a", "b", "c", "d"].map(|key| format!("{key}{node}"));
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = cluster.world.run(cluster.call(node, batch(&keys, &value)));
        let Outcome::Batch(done) = answer.unwrap() else { panic!("a batch answers a batch") };
        let stamps: Vec<_> = done.results.into_iter().map(|put| put.unwrap().stamp).collect();
        assert!(stamps.len() == 4 && stamps.iter().all(|stamp| *stamp == stamps[0]));
        for key in keys {
            assert_eq!(cluster.get(2, key, ConsistencyLevel::Quorum), [value.as_str()]);
        }
    }
    cluster.world.pass(5_000);
    assert!(cluster.nodes.values().all(|node| node.open_batches() == 0));
}

#[test]
fn a_batch_that_cannot_be_whole_is_refused() {
    let cluster = Cluster::of(3);
    let refused = |request| cluster.world.run(cluster.call(1, request)).unwrap_err();
    assert!(matches!(refused(batch(&["a", "a"], "v")), RequestError::InvalidArgument { .. }));
    assert!(matches!(refused(batch(&[], "v")), RequestError::InvalidArgument { .. }));
    let mut elsewhere = write("a", "v");
    elsewhere.table = "other.cities".parse().unwrap();
    let writes = vec![write("b", "v"), elsewhere];
    let two = AtomicBatch { writes, consistency: ConsistencyLevel::One };
    assert!(matches!(refused(Request::AtomicBatch(two)), RequestError::InvalidArgument { .. }));
    assert!(cluster.get(1, "b", ConsistencyLevel::All).is_empty());
}

#[test]
fn a_batch_whose_coordinator_dies_at_any_time_is_written_whole_or_not_at_all() {
    let keys = ["a", "b", "c", "d"];
    let mut whole = Vec::new();
    for after_ms in 1..=14 {
        let mut cluster = Cluster::of(5);
        let call = Box::pin(cluster.call(1, batch(&keys, "v")));
        let death = cluster.world.sleep(after_ms);
        let told = match cluster.world.run(futures::future::select(call, death)) {
            futures::future::Either::Left((answer, _)) => Some(answer.is_ok()),
            futures::future::Either::Right(_) => None,
        };
        cluster.nodes.remove(&NodeId(1));
        cluster.world.pass(60_000);
        let shown = keys.map(|key| cluster.get(2, key, ConsistencyLevel::Two).len());
        assert!(shown == [0; 4] || shown == [1; 4], "{shown:?} after {after_ms} ms");
        assert_ne!(told, Some(false), "{after_ms} ms");
        assert!(told.is_none() || shown == [1; 4], "it was acknowledged");
        whole.push(shown == [1; 4]);
        // Whoever reserved a dot must have it, too.
        cluster.start(NodeId(1), 1);
        cluster.world.pass(60_000);
        assert!(cluster.nodes.values().all(|node| node.open_batches() == 0), "{after_ms} ms");
    }
    assert!(!whole[0] && whole[13], "{whole:?}");
}
