//! Connections on in-memory pipes under a paused clock; proxies on real sockets by conditions, not
//! by time.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::time::{Instant, sleep, timeout};

use super::connection::MAX_HELD_BYTES;
use super::*;

/// Fails a test that hangs; no result depends on it.
const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);

struct Pair {
    client: DuplexStream,
    target: DuplexStream,
    forward: Arc<Way>,
    backward: Arc<Way>,
    task: tokio::task::JoinHandle<()>,
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn slow(latency: u64, jitter: u64) -> Conditions {
    Conditions { latency: millis(latency), jitter: millis(jitter), ..Conditions::default() }
}

fn pair(forward: Conditions, backward: Conditions, seed: u64) -> Pair {
    let (client, near) = duplex(1 << 16);
    let (target, far) = duplex(1 << 16);
    let (forward, backward) = (Arc::new(Way::new(forward)), Arc::new(Way::new(backward)));
    let connection = Connection::new(&forward, &backward, seed);
    let dial = async move { Ok(split(far)) };
    let task = tokio::spawn(connection.run(split(near), dial));
    Pair { client, target, forward, backward, task }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(test)
}

fn conditions() -> impl Strategy<Value = Conditions> {
    (0u64..200, 0u64..50, prop_oneof![Just(0.0), 0.0f64..60.0])
        .prop_map(|(l, j, loss_percent)| Conditions { loss_percent, ..slow(l, j.min(l)) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_arrive_whole_and_in_order_both_ways_whatever_happens(
        there in conditions(),
        back in conditions(),
        chunks in prop::collection::vec((0usize..20_000, 0u64..100, 0u8..6), 1..20),
        seed in any::<u64>(),
    ) {
        run(async move {
            let Pair { client, target, forward, backward, task } = pair(there, back, seed);
            let (mut from_client, mut to_proxy) = split(client);
            let (mut from_proxy, mut to_client) = split(target);
            let total: usize = chunks.iter().map(|(length, ..)| length).sum();
            let byte = |n: usize| u8::try_from(n % 251).unwrap();
            let writing = async {
                let mut n = 0;
                for (length, wait, event) in chunks {
                    match event {
                        0 => forward.change(|c| c.cut = true),
                        1 => backward.change(|c| c.cut = true),
                        2 => forward.change(|c| c.latency = millis(wait)),
                        _ => { forward.change(|c| c.cut = false); backward.change(|c| c.cut = false) }
                    }
                    let bytes: Vec<u8> = (n..n + length).map(byte).collect();
                    n += length;
                    to_proxy.write_all(&bytes).await.unwrap();
                    sleep(millis(wait)).await;
                }
                forward.change(|c| c.cut = false);
                backward.change(|c| c.cut = false);
                to_proxy.shutdown().await.unwrap();
            };
            let echoing = async {
                tokio::io::copy(&mut from_proxy, &mut to_client).await.unwrap();
                to_client.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let reading = async { from_client.read_to_end(&mut got).await.unwrap() };
            tokio::join!(writing, echoing, reading);
            task.await.unwrap();
            assert_eq!(got.len(), total);
            assert!(got.iter().enumerate().all(|(n, &b)| b == byte(n)));
            assert_eq!(forward.status("a", "b").held_bytes, 0);
            assert_eq!(forward.status("a", "b").passed_bytes, total as u64);
        });
    }

    #[test]
    fn no_byte_is_early(latency in 1u64..300, jitter in 0u64..50, seed in any::<u64>()) {
        let jitter = jitter.min(latency);
        run(async move {
            let Pair { mut client, mut target, .. } = pair(slow(latency, jitter), slow(0, 0), seed);
            let mut sent = Vec::new();
            for n in 0..20u8 {
                sent.push(Instant::now());
                client.write_all(&[n]).await.unwrap();
                sleep(millis(3)).await;
            }
            for n in 0..20u8 {
                assert_eq!(target.read_u8().await.unwrap(), n);
                assert!(sent[usize::from(n)].elapsed() >= millis(latency - jitter));
            }
        });
    }
}

#[test]
fn a_connection_takes_a_round_trip_before_its_first_byte() {
    run(async {
        let start = Instant::now();
        let Pair { mut client, mut target, .. } = pair(slow(40, 0), slow(60, 0), 1);
        client.write_all(b"x").await.unwrap();
        target.read_u8().await.unwrap();
        assert!(start.elapsed() >= millis(100));
    });
}

#[test]
fn nothing_passes_a_cut_and_a_heal_brings_all_of_it() {
    run(async {
        let Pair { mut client, mut target, forward, .. } = pair(slow(40, 5), slow(40, 5), 1);
        client.write_all(b"before").await.unwrap();
        let mut got = [0; 6];
        target.read_exact(&mut got).await.unwrap();
        forward.change(|c| c.cut = true);
        client.write_all(b"during").await.unwrap();
        assert!(timeout(HOUR, target.read_u8()).await.is_err(), "a byte passed the cut");
        assert_eq!(forward.status("a", "b").held_bytes, 6);
        target.write_all(b"answer").await.unwrap();
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"answer", "the other way is open");
        forward.change(|c| c.cut = false);
        target.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"during");
    });
}

#[test]
fn an_end_does_not_pass_a_cut_either() {
    run(async {
        let Pair { client, mut target, forward, backward, task } = pair(slow(1, 0), slow(1, 0), 1);
        sleep(millis(10)).await;
        forward.change(|c| c.cut = true);
        backward.change(|c| c.cut = true);
        drop(client);
        assert!(timeout(HOUR, target.read_u8()).await.is_err(), "the end passed the cut");
        drop(target);
        timeout(HOUR, task).await.expect("what both ends have finished is not held").unwrap();
    });
}

#[test]
fn a_connection_begun_during_a_cut_lives_after_the_heal_or_is_forgotten() {
    run(async {
        let cut = Conditions { cut: true, ..slow(1, 0) };
        let Pair { mut client, mut target, backward, .. } = pair(slow(1, 0), cut, 1);
        client.write_all(b"x").await.unwrap();
        assert!(timeout(HOUR, target.read_u8()).await.is_err(), "connected across a cut");
        backward.change(|c| c.cut = false);
        assert_eq!(target.read_u8().await.unwrap(), b'x');

        let Pair { client, task, .. } = pair(slow(1, 0), cut, 1);
        drop(client);
        timeout(HOUR, task).await.expect("a client that left is forgotten").unwrap();
    });
}

#[test]
fn a_cut_holds_no_more_than_its_bound() {
    run(async {
        let Pair { mut client, forward, target: _target, .. } = pair(slow(1, 0), slow(1, 0), 1);
        sleep(millis(10)).await;
        forward.change(|c| c.cut = true);
        let flood = vec![7; 2 * MAX_HELD_BYTES];
        assert!(timeout(HOUR, client.write_all(&flood)).await.is_err(), "the sender was not held");
        let held = usize::try_from(forward.status("a", "b").held_bytes).unwrap();
        assert!(held <= MAX_HELD_BYTES && held > MAX_HELD_BYTES / 2, "{held}");
    });
}

#[test]
fn the_same_seed_gives_the_same_arrivals() {
    run(async {
        let lossy = Conditions { loss_percent: 20.0, ..slow(40, 10) };
        let start = Instant::now();
        let arrivals = |seed| {
            let mut arrivals = way::Arrivals::new(seed);
            (0..50).map(|_| arrivals.next(start, &lossy)).collect::<Vec<_>>()
        };
        assert_eq!(arrivals(1), arrivals(1));
        assert_ne!(arrivals(1), arrivals(2));
        assert!(arrivals(1).is_sorted());
    });
}

/// A target that sends every byte back, and proxies to it from `us` and from `ap`.
async fn echoes() -> LinkProxies {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let spec = |from: &str| ProxySpec {
        from: from.into(),
        to: "eu".into(),
        node: "eu-1".into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        target,
    };
    let all = vec![spec("us"), spec("ap")];
    LinkProxies::start(all, |_, _| Conditions::default(), 1).await.unwrap()
}

async fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut got = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, text);
}

async fn held(proxies: &LinkProxies, from: &str, to: &str, bytes: u64) {
    let all_held = async {
        while !proxies
            .status()
            .iter()
            .any(|s| s.from == from && s.to == to && s.held_bytes == bytes)
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all_held).await.expect("the bytes are held by the cut");
}

#[tokio::test]
async fn proxies_cut_one_link_and_leave_the_others() {
    let proxies = echoes().await;
    let mut us = TcpStream::connect(proxies.address("us", "eu-1").unwrap()).await.unwrap();
    let mut ap = TcpStream::connect(proxies.address("ap", "eu-1").unwrap()).await.unwrap();
    echo(&mut us, b"one").await;
    proxies.cut("eu", "us").unwrap();
    us.write_all(b"two").await.unwrap();
    held(&proxies, "us", "eu", 3).await;
    echo(&mut ap, b"one").await;
    proxies.heal();
    let mut got = [0; 3];
    timeout(PATIENCE, us.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got, b"two");
}

#[tokio::test]
async fn a_one_way_cut_holds_the_answers_alone() {
    let proxies = echoes().await;
    let mut us = TcpStream::connect(proxies.address("us", "eu-1").unwrap()).await.unwrap();
    echo(&mut us, b"one").await;
    proxies.cut_one_way("eu", "us").unwrap();
    us.write_all(b"two!").await.unwrap();
    held(&proxies, "eu", "us", 4).await;
    proxies.heal_between("us", "eu").unwrap();
    let mut got = [0; 4];
    timeout(PATIENCE, us.read_exact(&mut got)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_link_that_is_not_there_is_refused_with_those_that_are() {
    let proxies = echoes().await;
    let error = proxies.cut("us", "mars").unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no link from `us` to `mars`; there are ap → eu, eu → ap, eu → us, us → eu"
    );
    assert!(proxies.status().iter().all(|s| !s.conditions.cut));
}

#[tokio::test]
async fn a_dead_target_ends_the_connection() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let spec = ProxySpec {
        from: "us".into(),
        to: "eu".into(),
        node: "eu-1".into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        target: gone,
    };
    let proxies = LinkProxies::start(vec![spec], |_, _| Conditions::default(), 1).await.unwrap();
    let mut us = TcpStream::connect(proxies.address("us", "eu-1").unwrap()).await.unwrap();
    let end = timeout(PATIENCE, us.read_u8()).await.unwrap();
    assert!(end.is_err());
}
