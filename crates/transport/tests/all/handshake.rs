//! Nodes that do not belong together, and clients that are no nodes.

use crate::support::*;
use futures::StreamExt;
use meridian_transport::{Class, HandshakeRefusal, LinkProblem, LinkState, Links, TransportError};
use meridian_types::NodeId;
use meridian_wire::link::Frame;
use meridian_wire::v1;
use meridian_wire::v1::link_down::Item as Answer;
use meridian_wire::v1::link_refused::Reason;
use meridian_wire::v1::link_up::Item;
use meridian_wire::v1::links_client::LinksClient;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Starts node 2, changed, beside node 1, and waits for the refusals that each sees.
async fn refusals(change: impl FnOnce(&mut meridian_transport::LinkOptions)) -> [LinkProblem; 2] {
    let mut second = options(2);
    change(&mut second);
    let (one, two) = (start(options(1)).await, start(second).await);
    one.links.set_peers(vec![peer(2, two.addr())]);
    two.links.set_peers(vec![peer(1, one.addr())]);
    let refused =
        |links: &Links| links.states()[0].problem.clone().filter(LinkProblem::needs_operator);
    eventually("refused", || refused(&one.links).is_some() && refused(&two.links).is_some()).await;
    assert!(one.recorder.look(|record| record.changes.is_empty()));
    assert_eq!(two.links.states()[0].state, LinkState::Down);
    [&one, &two].map(|node| refused(&node.links).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_is_refused() {
    let (test, prod) = (CLUSTER.to_owned(), "prod".to_owned());
    let [one, two] = refusals(|options| options.handshake.cluster = "prod".into()).await;
    let other = |ours: &String, theirs: &String| {
        let (ours, theirs) = (ours.clone(), theirs.clone());
        LinkProblem::Refused(HandshakeRefusal::OtherCluster { ours, theirs })
    };
    assert_eq!((one, two), (other(&test, &prod), other(&prod, &test)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_refused() {
    let [one, two] = refusals(|options| options.handshake.protocol = 2).await;
    let other =
        |ours, theirs| LinkProblem::Refused(HandshakeRefusal::OtherProtocol { ours, theirs });
    assert_eq!((one, two), (other(1, 2), other(2, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_at_a_peers_address_is_refused() {
    let [one, two] = refusals(|options| options.handshake.node = NodeId(3)).await;
    let (wanted, found) = (NodeId(2), NodeId(3));
    assert_eq!(one, LinkProblem::Refused(HandshakeRefusal::OtherNode { wanted, found }));
    assert_eq!(two, LinkProblem::Refused(HandshakeRefusal::UnknownPeer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_a_problem_that_goes_away_by_itself() {
    let one = start(options(1)).await;
    let nobody = {
        let listener = tokio::net::TcpListener::bind(any_port()).await.unwrap();
        listener.local_addr().unwrap()
    };
    one.links.set_peers(vec![peer(2, nobody)]);
    let not_reached = || matches!(one.links.states()[0].problem, Some(LinkProblem::NotReached(_)));
    eventually("not reached", not_reached).await;
    let mut second = options(2);
    second.listen = nobody;
    second.peers = vec![peer(1, one.addr())];
    let two = start(second).await;
    one.up(two.id).await;
    assert_eq!(one.links.states()[0].problem, None);
}

/// What a node answers to a client that sends these items and then waits.
async fn answers(node: &Node, items: Vec<Item>) -> Vec<Answer> {
    let mut client = LinksClient::connect(format!("http://{}", node.addr())).await.unwrap();
    let items = items.into_iter().map(|item| v1::LinkUp { item: Some(item) });
    let items = futures::stream::iter(items).chain(futures::stream::pending());
    let mut answers = client.open(items).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let read = async {
        while let Ok(Some(v1::LinkDown { item: Some(answer) })) = answers.message().await {
            seen.push(answer);
        }
    };
    tokio::time::timeout(FAILSAFE, read).await.expect("the node ends the stream");
    seen
}

fn hello() -> v1::Hello {
    v1::Hello { protocol: 1, cluster: CLUSTER.into(), from: 2, to: 1, incarnation: 0, class: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_right_handshake_is_refused() {
    let one = start(options(1)).await;
    one.links.set_peers(vec![peer(2, any_port())]);
    let frame = || Item::Frame(Frame { messages: vec!["m".into()], excess: 0 });
    let reason = |answers: &[Answer]| match answers {
        [Answer::Refused(refused)] => refused.reason(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&answers(&one, vec![frame()]).await), Reason::OtherProtocol);
    let no_class = v1::Hello { class: 0, ..hello() };
    let refused = answers(&one, vec![Item::Hello(no_class), frame()]).await;
    assert_eq!(reason(&refused), Reason::Malformed);
    let stranger = v1::Hello { from: 9, ..hello() };
    assert_eq!(reason(&answers(&one, vec![Item::Hello(stranger)]).await), Reason::UnknownPeer);
    assert!(one.recorder.look(|record| record.messages.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_the_rules_later_is_ended() {
    let one = start(options(1)).await;
    one.links.set_peers(vec![peer(2, any_port())]);
    let too_many = Frame { messages: vec!["".into(); Frame::MAX_MESSAGES + 1], excess: 0 };
    for bad in [Item::Hello(hello()), Item::Frame(too_many)] {
        let answers = answers(&one, vec![Item::Hello(hello()), bad]).await;
        assert!(matches!(answers[..], [Answer::Welcome(_)]), "{answers:?}");
    }
    // A stream that says nothing at all any more ends as well.
    let answers = answers(&one, vec![Item::Hello(hello())]).await;
    assert!(matches!(answers[..], [Answer::Welcome(_)]), "{answers:?}");
    assert!(one.recorder.look(|record| record.messages.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_from_a_stream_that_its_peer_has_replaced() {
    let mut patient = options(1);
    patient.down_after = FAILSAFE;
    let one = start(patient).await;
    one.links.set_peers(vec![peer(2, any_port())]);
    let frame = |text: &'static str| Item::Frame(Frame { messages: vec![text.into()], excess: 0 });
    let (old, mut old_answers) = open(&one).await;
    let (new, _new_answers) = open(&one).await;
    // The node may have ended the old stream already.
    let _ = old.send(frame("old")).await;
    new.send(frame("new")).await.unwrap();
    one.recorder.until("a message", |record| !record.messages.is_empty()).await;
    while let Ok(Some(_)) = old_answers.message().await {}
    assert_eq!(one.recorder.look(|record| record.of(Class::Foreground)), ["new"]);
}

/// A stream that was welcomed.
async fn open(node: &Node) -> (mpsc::Sender<Item>, Streaming<v1::LinkDown>) {
    let mut client = LinksClient::connect(format!("http://{}", node.addr())).await.unwrap();
    let (sender, items) = mpsc::channel(4);
    sender.send(Item::Hello(hello())).await.unwrap();
    let items = ReceiverStream::new(items).map(|item| v1::LinkUp { item: Some(item) });
    let mut answers = client.open(items).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().and_then(|answer| answer.item);
    assert!(matches!(first, Some(Answer::Welcome(_))), "{first:?}");
    (sender, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_does_not_disturb_the_links() {
    let (one, two) = two().await;
    let noise: [&[u8]; 3] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xff; 1_000],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x05\xff\xff\xff\xff\xff\xffnoise",
    ];
    for bytes in noise {
        let mut socket = tokio::net::TcpStream::connect(one.addr()).await.unwrap();
        // The node may have closed the connection before it read everything.
        let _ = socket.write_all(bytes).await;
        let _ = socket.shutdown().await;
    }
    two.send(one.id, Class::Control, "still there").await;
    one.recorder.until("a message", |record| record.messages.len() == 1).await;
    assert_eq!(one.recorder.look(|record| record.changes.len()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_and_bad_options_are_errors() {
    let one = start(options(1)).await;
    let mut taken = options(2);
    taken.listen = one.addr();
    let refused = Links::start(taken, Recorder::new()).await.err();
    assert!(
        matches!(refused, Some(TransportError::Listen { address, .. }) if address == one.addr())
    );
    let mut bad = options(2);
    bad.down_after = bad.keep_alive;
    let refused = Links::start(bad, Recorder::new()).await.err();
    assert!(matches!(refused, Some(TransportError::Options { option: "down_after", .. })));
}
