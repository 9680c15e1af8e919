//! The siblings of a row beside `crdts::MVReg`, a register of the same meaning and another making.
//!
//! The same writes, with the same contexts read at the same places and times, merged in the same
//! order. `MVReg` gets a fresh actor for every write, because its own contexts allow one writer an
//! actor; it knows no deletes.

use crate::draw::actor;
use bytes::Bytes;
use crdts::{CmRDT, CvRDT, MVReg, VClock};
use meridian_crdt::{ConflictPolicy, Context, Delta, Dot, Entry, Row, VnodeClock};
use meridian_types::{Hlc, Millis};
use proptest::prelude::*;

const REPLICAS: usize = 3;
const CLIENTS: usize = 3;
const POLICY: ConflictPolicy = ConflictPolicy::Siblings;

#[derive(Clone, Debug)]
enum Op {
    /// With the client's last context, or none.
    Write {
        at: usize,
        client: usize,
        blind: bool,
    },
    Read {
        at: usize,
        client: usize,
    },
    Merge {
        to: usize,
        from: usize,
    },
}

#[derive(Clone, Default)]
struct Replica {
    row: Row,
    clock: VnodeClock,
    minted: u64,
    oracle: MVReg<u32, u32>,
}

#[derive(Clone, Default)]
struct Client {
    context: Context,
    oracle: VClock<u32>,
}

impl Replica {
    fn write(&mut self, at: usize, number: u32, client: &Client) {
        self.minted += 1;
        let node = u32::try_from(at).expect("few replicas");
        let entry = Entry {
            dot: Dot::new(actor(node), self.minted),
            stamp: Hlc::ZERO,
            expires: None,
            value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        };
        self.clock.insert(entry.dot);
        self.row.apply(POLICY, Delta { entry, context: client.context.clone() });
        self.row.strip(&self.clock);

        let mut clock = client.oracle.clone();
        clock.apply(clock.inc(number));
        self.oracle.apply(crdts::mvreg::Op::Put { clock, val: number });
    }

    fn merge(&mut self, other: &Self) {
        let theirs = other.row.full_context(&other.clock);
        self.row.join_answer(POLICY, &mut self.clock, &other.row, &theirs);
        self.clock.join(&other.clock);
        self.row.strip(&self.clock);
        self.oracle.merge(other.oracle.clone());
    }

    fn shown(&self) -> Vec<u32> {
        let values = self.row.visible(Millis(0)).filter_map(|entry| entry.value.as_deref());
        let mut values: Vec<u32> =
            values.map(|value| u32::from_be_bytes(value.try_into().expect("four bytes"))).collect();
        values.sort_unstable();
        values
    }

    fn wanted(&self) -> Vec<u32> {
        let mut values = self.oracle.read().val;
        values.sort_unstable();
        values
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let write = (0..REPLICAS, 0..CLIENTS, any::<bool>())
        .prop_map(|(at, client, blind)| Op::Write { at, client, blind });
    let read = (0..REPLICAS, 0..CLIENTS).prop_map(|(at, client)| Op::Read { at, client });
    let merge = (0..REPLICAS, 1..REPLICAS)
        .prop_map(|(to, by)| Op::Merge { to, from: (to + by) % REPLICAS });
    proptest::collection::vec(prop_oneof![write, read, merge], 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn shows_what_a_multi_value_register_shows(ops in ops()) {
        let mut replicas = vec![Replica::default(); REPLICAS];
        let mut clients = vec![Client::default(); CLIENTS];
        for (number, op) in (1..).zip(ops) {
            match op {
                Op::Write { at, client, blind } => {
                    let nobody = Client::default();
                    let client = if blind { &nobody } else { &clients[client] };
                    replicas[at].write(at, number, client);
                }
                Op::Read { at, client } => {
                    let Replica { row, clock, oracle, .. } = &replicas[at];
                    let context = row.reader_context(clock);
                    clients[client] = Client { context, oracle: oracle.read().add_clock };
                }
                Op::Merge { to, from } => {
                    let from = replicas[from].clone();
                    replicas[to].merge(&from);
                }
            }
            for replica in &replicas {
                prop_assert_eq!(replica.shown(), replica.wanted());
            }
        }
    }
}
