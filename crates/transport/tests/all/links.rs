//! Messages, cuts, and peers that come and go.

use crate::support::*;
use bytes::Bytes;
use meridian_transport::{Class, LinkProblem, LinkState, SendRefused};
use meridian_types::{Incarnation, NodeId};

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_both_ways_in_every_class() {
    let (one, two) = two().await;
    for class in Class::EVERY {
        one.send(two.id, class, "there").await;
        two.send(one.id, class, "back").await;
    }
    let all = |text: &'static str| {
        move |record: &Record| Class::EVERY.iter().all(|c| record.of(*c) == [text])
    };
    one.recorder.until("answers", all("back")).await;
    two.recorder.until("messages", all("there")).await;
    assert!(one.links.is_up(two.id) && two.links.is_up(one.id));
    eventually("a round trip", || one.links.states()[0].round_trip.is_some()).await;
    let state = &one.links.states()[0];
    assert_eq!((state.id, state.state, &state.problem), (two.id, UP, &None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_class_keep_their_order() {
    let (one, two) = two().await;
    const MESSAGES: u32 = 20_000;
    for n in 0..MESSAGES {
        one.send(two.id, Class::Foreground, number(n)).await;
        one.send(two.id, Class::Background, number(n)).await;
    }
    for class in [Class::Foreground, Class::Background] {
        let all = |record: &Record| {
            record.messages.iter().filter(|m| m.1 == class).count() == MESSAGES as usize
        };
        two.recorder.until("all messages", all).await;
        let sent: Vec<_> = (0..MESSAGES).map(number).collect();
        assert!(two.recorder.look(|record| record.of(class) == sent));
    }
    let stats = one.links.stats()[0].classes[0].1;
    assert_eq!(stats.sent_messages, u64::from(MESSAGES));
    assert!(stats.sent_frames < stats.sent_messages, "messages are coalesced");
    assert!(stats.sent_frames >= stats.sent_messages / 64, "up to the bound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_message_arrives_and_a_larger_one_is_refused() {
    let (one, two) = two().await;
    let largest = Bytes::from(vec![7; 16 << 20]);
    one.send(two.id, Class::Foreground, largest.clone()).await;
    one.send(two.id, Class::Foreground, "small").await;
    two.recorder.until("both", |record| record.messages.len() == 2).await;
    assert!(two.recorder.look(|r| r.of(Class::Foreground) == [largest.clone(), "small".into()]));
    let larger = Bytes::from(vec![7; (16 << 20) + 1]);
    let refused = SendRefused::TooLarge { bytes: larger.len(), limit: largest.len() };
    assert_eq!(one.links.send(two.id, Class::Foreground, larger), Err(refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_cut_is_noticed_and_healed() {
    let (one, to_two, two, to_one) = two_with_proxies(|_| {}).await;
    to_two.cut();
    to_one.cut();
    one.down(two.id).await;
    two.down(one.id).await;
    assert!(!one.links.is_up(two.id) && !two.links.is_up(one.id));
    eventually("no stream", || {
        one.links.send(two.id, Class::Foreground, "lost".into()) == Err(SendRefused::Down)
    })
    .await;
    to_two.heal();
    to_one.heal();
    one.up(two.id).await;
    two.up(one.id).await;
    one.send(two.id, Class::Foreground, "after").await;
    two.recorder
        .until("a message after the heal", |record| record.messages.iter().any(|m| m.2 == "after"))
        .await;
    assert!(one.links.stats()[0].ups >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_in_one_direction_is_down_on_both_sides() {
    let (one, to_two, two, to_one) = two_with_proxies(|_| {}).await;
    // Nothing that node 1 sends arrives any more; everything that node 2 sends does.
    to_two.there.send_replace(false);
    to_one.back.send_replace(false);
    two.down(one.id).await;
    one.down(two.id).await;
    to_two.heal();
    to_one.heal();
    one.up(two.id).await;
    two.up(one.id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dead_stream_is_down_on_both_sides() {
    // What node 2 dialed lives on, in both directions.
    let (one, to_two, two, _to_one) = two_with_proxies(|_| {}).await;
    to_two.cut();
    one.down(two.id).await;
    two.down(one.id).await;
    to_two.heal();
    one.up(two.id).await;
    two.up(one.id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_loses_nothing_that_it_took() {
    let (one, to_two, two, _to_one) = two_with_proxies(|options| {
        // The link must outlive the time that it takes to fill every buffer in between.
        options.down_after = FAILSAFE;
        options.queue_messages = 100;
    })
    .await;
    to_two.cut();
    let message = |n: u32| [&n.to_be_bytes()[..], &[0; 64 << 10]].concat();
    let mut taken = 0;
    let full = async {
        let mut refused = 0;
        // Refused again and again, with nothing that could still move on: the queue is full.
        while refused < 1_000 {
            match one.links.send(two.id, Class::Foreground, message(taken).into()) {
                Ok(()) => (taken, refused) = (taken + 1, 0),
                Err(SendRefused::Full) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(FAILSAFE, full).await.unwrap();
    assert!(one.links.stats()[0].classes[0].1.refused_full >= 1_000);
    to_two.heal();
    two.recorder.until("all that was taken", |r| r.messages.len() == taken as usize).await;
    let in_order = |record: &Record| {
        (0..taken).zip(&record.messages).all(|(n, m)| m.2[..4] == n.to_be_bytes())
    };
    assert!(two.recorder.look(in_order));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_on_a_cut_link_is_dropped_and_counted() {
    let (one, to_two, two, to_one) =
        two_with_proxies(|options| options.queue_messages = 10_000).await;
    to_two.cut();
    to_one.cut();
    let message = Bytes::from(vec![0; 64 << 10]);
    let mut refused = false;
    while !refused {
        refused = one.links.send(two.id, Class::Background, message.clone()).is_err();
        tokio::task::yield_now().await;
    }
    one.down(two.id).await;
    eventually("dropped", || one.links.stats()[0].classes[1].1.dropped_messages > 0).await;
    assert_eq!(one.links.stats()[0].classes[1].1.queued_bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_returns_is_another_life_at_the_same_address() {
    let (one, two) = two().await;
    let (address, id) = (two.addr(), two.id);
    two.links.close().await;
    one.down(id).await;
    let mut again = options(2);
    again.listen = address;
    again.handshake.incarnation = Incarnation(9);
    again.peers = vec![peer(1, one.addr())];
    let again = start(again).await;
    one.up(id).await;
    again.up(one.id).await;
    let states = one.recorder.look(|record| record.changes.clone());
    let reborn = LinkState::Up { incarnation: Incarnation(9) };
    assert_eq!(states, [(id, UP), (id, LinkState::Down), (id, reborn)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_closes_takes_nobody_back() {
    // The streams end one after another, and whoever dialed them dials again at once.
    for _ in 0..40 {
        let (one, two) = two().await;
        let id = two.id;
        two.links.close().await;
        one.down(id).await;
        eventually("found closed", || {
            let problem = one.links.states()[0].problem.clone();
            matches!(problem, Some(LinkProblem::NotReached(_)))
        })
        .await;
        let changes = one.recorder.look(|record| record.changes.clone());
        assert_eq!(changes, [(id, UP), (id, LinkState::Down)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_moves_is_dialed_at_its_new_address() {
    let (one, two) = two().await;
    let id = two.id;
    two.links.close().await;
    one.down(id).await;
    let mut moved = options(2);
    moved.peers = vec![peer(1, one.addr())];
    let moved = start(moved).await;
    one.links.set_peers(vec![peer(2, moved.addr())]);
    one.up(id).await;
    assert_eq!(one.links.states()[0].address, moved.addr().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_removed_goes_down_and_is_unknown() {
    let (one, two) = two().await;
    one.links.set_peers(Vec::new());
    one.down(two.id).await;
    two.down(one.id).await;
    assert!(one.links.states().is_empty());
    let refused = one.links.send(two.id, Class::Control, Bytes::new());
    assert_eq!(refused, Err(SendRefused::UnknownPeer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_hear_who_sent_what() {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(start(options(id)).await);
    }
    let peers: Vec<_> = nodes.iter().map(|node| peer(node.id.0, node.addr())).collect();
    for node in &nodes {
        // A node that is among its own peers does not dial itself.
        node.links.set_peers(peers.clone());
    }
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.id != from.id) {
            from.up(to.id).await;
            from.send(to.id, Class::Foreground, number(from.id.0)).await;
        }
    }
    for node in &nodes {
        node.recorder.until("two messages", |record| record.messages.len() == 2).await;
        let right = |record: &Record| {
            record.messages.iter().all(|(from, _, message)| *message == number(from.0))
        };
        assert!(node.recorder.look(right));
        assert_eq!(node.links.states().len(), 2);
        assert_eq!(
            node.links.send(node.id, Class::Control, Bytes::new()),
            Err(SendRefused::UnknownPeer)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_can_be_sent_as_soon_as_a_question_comes() {
    // Node 2 answers from within `received`, however early that is.
    struct Echo(std::sync::OnceLock<std::sync::Arc<meridian_transport::Links>>);
    impl meridian_transport::Inbound for Echo {
        fn received(&self, from: NodeId, class: Class, message: Bytes) {
            if let Some(links) = self.0.get() {
                links.send(from, class, message).unwrap();
            }
        }
        fn link_changed(&self, _: NodeId, _: LinkState) {}
    }
    for _ in 0..20 {
        let echo = std::sync::Arc::new(Echo(std::sync::OnceLock::new()));
        let links = meridian_transport::Links::start(options(2), echo.clone()).await.unwrap();
        let links = std::sync::Arc::new(links);
        echo.0.set(std::sync::Arc::clone(&links)).unwrap_or_else(|_| panic!("set twice"));
        let one = start(options(1)).await;
        links.set_peers(vec![peer(1, one.addr())]);
        one.links.set_peers(vec![peer(2, links.local_addr())]);
        one.up(NodeId(2)).await;
        for class in Class::EVERY {
            one.send(NodeId(2), class, "question").await;
        }
        one.recorder.until("answers", |record| record.messages.len() == 3).await;
    }
}
