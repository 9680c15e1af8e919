//! How many small messages two nodes in one process exchange over the loopback.
//!
//! `cargo run --release -p meridian-transport --example throughput -- [seconds]`
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that prints its result"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_transport::{
    Class, Handshake, Inbound, LinkOptions, LinkState, Links, Peer, SendRefused,
};
use meridian_types::{DcId, Incarnation, NodeId};
use tokio::sync::{Notify, OnceCell, Semaphore};

/// A request of a put with a value of 100 bytes takes about this much.
const MESSAGE_BYTES: usize = 200;

#[derive(Default)]
struct Counter {
    received: AtomicU64,
    /// Answers that may come: permits of those who ask.
    in_flight: OnceCell<Arc<Semaphore>>,
    /// Where to answer to, if at all.
    answers: OnceCell<Arc<Links>>,
    up: Notify,
}

impl Inbound for Counter {
    fn received(&self, from: NodeId, class: Class, message: Bytes) {
        self.received.fetch_add(1, Ordering::Relaxed);
        if let Some(links) = self.answers.get() {
            // The one who asks closes its links when the time is over; then nobody waits.
            let _ = links.send(from, class, message);
        } else if let Some(in_flight) = self.in_flight.get() {
            in_flight.add_permits(1);
        }
    }

    fn link_changed(&self, _: NodeId, state: LinkState) {
        if state != LinkState::Down {
            self.up.notify_one();
        }
    }
}

async fn node(id: u32) -> (Arc<Links>, Arc<Counter>) {
    let handshake = Handshake {
        cluster: "bench".into(),
        node: NodeId(id),
        incarnation: Incarnation(u64::from(id)),
        protocol: 1,
    };
    let options = LinkOptions::new(([127, 0, 0, 1], 0).into(), handshake, Vec::new());
    let counter = Arc::new(Counter::default());
    let links = Links::start(options, Arc::clone(&counter) as Arc<dyn Inbound>).await.unwrap();
    (Arc::new(links), counter)
}

async fn pair() -> [(Arc<Links>, Arc<Counter>); 2] {
    let (one, two) = (node(1).await, node(2).await);
    let peer = |id, links: &Links| Peer {
        id: NodeId(id),
        address: links.local_addr().to_string(),
        dc: DcId(0),
    };
    one.0.set_peers(vec![peer(2, &two.0)]);
    two.0.set_peers(vec![peer(1, &one.0)]);
    one.1.up.notified().await;
    two.1.up.notified().await;
    [one, two]
}

async fn one_direction(time: Duration) {
    let [(links, _), (_receiver, counter)] = pair().await;
    let message = Bytes::from(vec![7; MESSAGE_BYTES]);
    let start = Instant::now();
    while start.elapsed() < time {
        match links.send(NodeId(2), Class::Foreground, message.clone()) {
            Ok(()) => {}
            Err(SendRefused::Full) => tokio::task::yield_now().await,
            Err(refused) => panic!("{refused}: {:?}", links.states()),
        }
    }
    let rate = counter.received.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    let stats = links.stats()[0].classes[0].1;
    let per_frame = stats.sent_messages as f64 / stats.sent_frames as f64;
    println!("one direction            {rate:>10.0} messages/s, {per_frame:.1} a frame");
}

async fn questions_and_answers(in_flight: usize, time: Duration) {
    let [(links, asker), (answering, answerer)] = pair().await;
    answerer.answers.set(Arc::clone(&answering)).unwrap_or_else(|_| unreachable!());
    let permits = Arc::new(Semaphore::new(in_flight));
    asker.in_flight.set(Arc::clone(&permits)).unwrap();
    let message = Bytes::from(vec![7; MESSAGE_BYTES]);
    let start = Instant::now();
    while start.elapsed() < time {
        permits.acquire().await.unwrap().forget();
        let sent = links.send(NodeId(2), Class::Foreground, message.clone());
        sent.unwrap_or_else(|refused| panic!("{refused}: {:?}", links.states()));
    }
    let rate = asker.received.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    let stats = links.stats()[0].classes[0].1;
    let per_frame = stats.sent_messages as f64 / stats.sent_frames as f64;
    println!("asked and answered, {in_flight:>4} {rate:>10.0} pairs/s,    {per_frame:.1} a frame");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let time = Duration::from_secs(seconds);
    one_direction(time).await;
    for in_flight in [1, 16, 64, 256, 1_024] {
        questions_and_answers(in_flight, time).await;
    }
}
