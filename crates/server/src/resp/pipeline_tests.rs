//! Answers come in order, and what touches one key never runs at the same time.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use futures::task::noop_waker;
use meridian_service::{Expiry, Get, Put, PutItem, Request};
use meridian_types::ConsistencyLevel;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::super::action::Shape;
use super::*;

const ENVELOPE: Envelope = Envelope { protocol: Protocol::Resp2, silent: false };

fn get(key: u8) -> Work {
    let get = Get {
        table: "a.b".parse().unwrap(),
        key: Bytes::copy_from_slice(&[key]),
        consistency: ConsistencyLevel::One,
        with_context: false,
    };
    Work::Ask(Request::Get(get), Shape::Value)
}

fn put(key: u8) -> Work {
    let put = Put {
        table: "a.b".parse().unwrap(),
        item: PutItem {
            key: Bytes::copy_from_slice(&[key]),
            value: Some(Bytes::new()),
            expiry: Expiry::Never,
            context: None,
            write_id: None,
        },
        condition: None,
        consistency: ConsistencyLevel::One,
        with_context: false,
    };
    Work::Ask(Request::Put(put), Shape::Done)
}

fn claim(work: &Work, keys: &mut Vec<u64>) -> bool {
    keys.clear();
    work.each_key(|key| keys.push(xxh3_64(key)));
    work.writes()
}

/// Which commands may end, and which run.
#[derive(Default)]
struct Gate {
    open: Vec<bool>,
    running: Vec<(usize, Bytes, bool)>,
    wakers: Vec<Waker>,
}

impl Gate {
    fn shut(commands: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { open: vec![false; commands], ..Self::default() }))
    }

    fn open(&mut self, n: usize) {
        self.open[n] = true;
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

/// Command `n`, which ends when it is let.
fn gated(gate: Arc<Mutex<Gate>>, n: usize, work: &Work) -> impl Future<Output = Reply> + use<> {
    let mut key = Bytes::new();
    work.each_key(|k| key = Bytes::copy_from_slice(k));
    let writes = work.writes();
    let mut begun = false;
    std::future::poll_fn(move |cx| {
        let mut gate = gate.lock();
        if !begun {
            begun = true;
            for (_, other, other_writes) in &gate.running {
                assert!(*other != key || !(writes || *other_writes), "two at once on {key:?}");
            }
            gate.running.push((n, key.clone(), writes));
        }
        if gate.open[n] {
            gate.running.retain(|(other, ..)| *other != n);
            return Poll::Ready(Reply::count(n));
        }
        gate.wakers.push(cx.waker().clone());
        Poll::Pending
    })
}

fn answers(out: &BytesMut) -> Vec<usize> {
    let text = std::str::from_utf8(out).unwrap();
    text.split_terminator("\r\n").map(|line| line[1..].parse().unwrap()).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Read(u8),
    Write(u8),
    End(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8).prop_map(Step::Read),
        (0..4u8).prop_map(Step::Write),
        any::<prop::sample::Index>().prop_map(Step::End),
    ]
}

proptest! {
    /// Ends commands in any order; whatever may start is started in the order of the stream.
    #[test]
    fn answers_are_in_order_and_keys_are_used_one_at_a_time(
        steps in prop::collection::vec(step(), 0..60)
    ) {
        let gate = Arc::new(Mutex::new(Gate::default()));
        let (mut pipeline, mut waiting) = (Pipeline::new(), VecDeque::new());
        let (mut out, mut keys) = (BytesMut::new(), Vec::new());
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut advance = |waiting: &mut VecDeque<(usize, Work)>| {
            let _ = pipeline.poll_ended(&mut cx);
            pipeline.write_answers(&mut out);
            while let Some((n, work)) = waiting.pop_front() {
                if pipeline.must_wait(&work) {
                    waiting.push_front((n, work));
                    break;
                }
                let writes = claim(&work, &mut keys);
                let claim = Claim { keys: &keys, writes };
                let run = gated(gate.clone(), n, &work);
                pipeline.start(&mut cx, ENVELOPE, claim, run, &mut out);
            }
        };
        let mut count = 0;
        for step in steps {
            match step {
                Step::Read(key) | Step::Write(key) => {
                    let write = matches!(step, Step::Write(_));
                    let work = if write { put(key) } else { get(key) };
                    gate.lock().open.push(false);
                    waiting.push_back((count, work));
                    count += 1;
                }
                Step::End(_) if count == 0 => {}
                Step::End(which) => gate.lock().open(which.index(count)),
            }
            advance(&mut waiting);
        }
        (0..count).for_each(|n| gate.lock().open(n));
        for _ in 0..=count {
            advance(&mut waiting);
        }
        prop_assert!(pipeline.is_idle() && pipeline.len() == 0);
        prop_assert_eq!(answers(&out), (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn reads_of_one_key_run_at_the_same_time_and_a_write_waits() {
    let gate = Gate::shut(2);
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let (mut pipeline, mut out, mut keys) = (Pipeline::new(), BytesMut::new(), Vec::new());
    let first = get(1);
    let writes = claim(&first, &mut keys);
    let run = gated(gate.clone(), 0, &first);
    pipeline.start(&mut cx, ENVELOPE, Claim { keys: &keys, writes }, run, &mut out);
    assert!(!pipeline.must_wait(&get(1)));
    assert!(pipeline.must_wait(&put(1)));
    assert!(!pipeline.must_wait(&put(2)));
    // An answer that is there waits for the one before it.
    pipeline.answer(ENVELOPE, Reply::count(1), &mut out);
    assert!(out.is_empty());
    gate.lock().open(0);
    assert!(pipeline.poll_ended(&mut cx).is_ready());
    pipeline.write_answers(&mut out);
    assert_eq!(answers(&out), [0, 1]);
    assert!(!pipeline.must_wait(&put(1)));
}

#[test]
fn a_command_with_many_keys_runs_alone() {
    let many: Vec<Bytes> = (0..100u8).map(|n| Bytes::copy_from_slice(&[n])).collect();
    let many = || Work::Delete {
        table: "a.b".parse().unwrap(),
        keys: many.clone(),
        consistency: ConsistencyLevel::One,
    };
    let gate = Gate::shut(2);
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let (mut pipeline, mut out, mut keys) = (Pipeline::new(), BytesMut::new(), Vec::new());
    assert!(!pipeline.must_wait(&many()));
    let writes = claim(&many(), &mut keys);
    let run = gated(gate.clone(), 0, &many());
    pipeline.start(&mut cx, ENVELOPE, Claim { keys: &keys, writes }, run, &mut out);
    assert!(pipeline.must_wait(&get(200)) && pipeline.must_wait(&many()));
    gate.lock().open(0);
    assert!(pipeline.poll_ended(&mut cx).is_ready());
    assert!(!pipeline.must_wait(&get(200)));
}
