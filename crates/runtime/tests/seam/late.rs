//! What nobody waits for any more is not done, and what was not done is not said to be unknown.

use bytes::Bytes;
use meridian_coordinator::message::{ReadKind, Refusal, ReplicaReply, ReplicaRequest};
use meridian_transport::Class;
use meridian_types::{Epoch, ReadClass};
use meridian_wire::replica::{PeerBody, PeerMessage};

use super::*;

/// What node 1 answers node 2, who waits for so long.
fn asked(cluster: &Cluster, request: ReplicaRequest, deadline_ms: Option<u32>) -> ReplicaReply {
    let (one, two) = (NodeId(1), NodeId(2));
    let call = u64::MAX;
    let message = PeerMessage { call, trace: None, deadline_ms, body: PeerBody::Request(request) };
    cluster.world.sent.lock().clear();
    cluster.world.hand(two, one, Class::Foreground, message.encode());
    cluster.world.pass(1);
    let sent = std::mem::take(&mut *cluster.world.sent.lock());
    let answers = sent.into_iter().filter(|(from, to, _)| (*from, *to) == (one, two));
    let decoded = answers.map(|(_, _, bytes)| PeerMessage::decode(bytes).unwrap());
    let mut mine = decoded.filter(|message| message.call == call).map(|message| message.body);
    match (mine.next(), mine.next()) {
        (Some(PeerBody::Reply(reply)), None) => reply,
        other => panic!("one answer was expected: {other:?}"),
    }
}

fn read(cluster: &Cluster) -> ReplicaRequest {
    let store = cluster.nodes[&NodeId(1)].store();
    let table = store.catalog().table(&cities()).cloned().unwrap();
    let row = store.row_key(&table, Bytes::from_static(b"k"));
    let class = ReadClass::of(ConsistencyLevel::One);
    ReplicaRequest::Read { row, kind: ReadKind::Data, class, epoch: Epoch(1), seen: None }
}

const LATE: ReplicaReply = ReplicaReply::Refused(Refusal::DeadlinePassed);

fn late_work_is_left_out() -> Result<(), String> {
    let cluster = Cluster::of(3);
    for deadline in [Some(1_000), None] {
        let reply = asked(&cluster, read(&cluster), deadline);
        if !matches!(reply, ReplicaReply::Row(_)) {
            return Err(format!("it was not late: {reply:?}"));
        }
    }
    if asked(&cluster, read(&cluster), Some(0)) != LATE {
        return Err("it read for nobody".to_owned());
    }
    let request = put("late", "value", ConsistencyLevel::One);
    if asked(&cluster, ReplicaRequest::Coordinate(request.clone()), Some(0)) != LATE {
        return Err("it wrote for nobody".to_owned());
    }
    let context = CallContext { id: RequestId(Uuid::nil()), timeout: Duration::ZERO };
    let node = Arc::clone(&cluster.nodes[&NodeId(1)]);
    let answer = cluster.world.run(async move { node.call(context, request).await });
    match answer {
        Err(error) if error.effect() == Effect::NotApplied => {}
        other => return Err(format!("it was late for {other:?}")),
    }
    cluster.world.pass(5_000);
    let found = cluster.get(1, "late", ConsistencyLevel::All);
    if found.is_empty() { Ok(()) } else { Err(format!("not applied, and found: {found:?}")) }
}

#[test]
fn what_nobody_waits_for_is_not_done() {
    late_work_is_left_out().unwrap();
}

#[cfg(meridian_mutations)]
#[test]
fn a_node_that_works_past_the_deadline_is_noticed() {
    meridian_types::leave_out(Some(meridian_types::Mutation::WorkPastDeadline));
    let noticed = late_work_is_left_out();
    meridian_types::leave_out(None);
    noticed.unwrap_err();
}
