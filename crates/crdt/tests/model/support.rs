//! What all models need: seeded choices, budgets, and histories run and made small.

use std::fmt::{Debug, Display};

use meridian_crdt::Actor;
use meridian_types::{Incarnation, NodeId};

/// Histories of one run of the tests, per model.
pub(crate) const HISTORIES: u64 = 20_000;

/// Seeded choices: splitmix64 (Steele, Lea, Flood, 2014).
pub(crate) struct Choices(u64);

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give shifted copies of one sequence.
        Self(mixed(seed ^ 0x6d65_7269_6469_616e))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("below a usize")
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub(crate) fn one_of<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())]
    }
}

/// The finalizer of splitmix64.
pub(crate) fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The actor of a replica's life of that number.
pub(crate) fn life(replica: usize, number: u64) -> Actor {
    let node = u32::try_from(replica).expect("few replicas");
    let incarnation = Incarnation(mixed(u64::from(node + 1) << 32 | number));
    Actor { node: NodeId(node), incarnation }
}

/// `items` in the order that `order` numbers, of all orders of so many items; 0 leaves them.
pub(crate) fn ordered<T>(mut items: Vec<T>, mut order: usize) -> Vec<T> {
    for at in 0..items.len() {
        let left = items.len() - at;
        items.swap(at, at + order % left);
        order /= left;
    }
    items
}

/// The seeds of a run, as the environment asks.
pub(crate) fn seeds() -> std::ops::Range<u64> {
    let first = number("MERIDIAN_MODEL_SEED").unwrap_or(0);
    first..first + number("MERIDIAN_MODEL_HISTORIES").unwrap_or(HISTORIES)
}

/// The rule that the environment asks to leave out, if one of `rules` has that name.
pub(crate) fn broken_rule<R: Copy + Debug>(rules: &[R]) -> Option<R> {
    let name = setting("MERIDIAN_MODEL_BREAK")?;
    rules.iter().copied().find(|rule| format!("{rule:?}") == name)
}

fn number(name: &str) -> Option<u64> {
    setting(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[expect(clippy::disallowed_methods, reason = "a long run or a replay is asked for from outside")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Leaves out all operations that a failure does not need.
pub(crate) fn shrunk<O: Clone>(mut ops: Vec<O>, fails: impl Fn(&[O]) -> bool) -> Vec<O> {
    let mut size = ops.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut helped = false;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..ops.len().min(at + size));
            if fails(&fewer) {
                ops = fewer;
                helped = true;
            } else {
                at += size;
            }
        }
        if size > 1 || !helped {
            size /= 2;
        }
    }
    ops
}

/// The message of a failed run: what broke, how to replay it, and the smallest history like it.
pub(crate) fn report(
    model: &str,
    seed: u64,
    what: &impl Display,
    smallest: &impl Debug,
    broken: &impl Debug,
) -> String {
    format!(
        "{what}\n\nreplay: MERIDIAN_MODEL_SEED={seed} MERIDIAN_MODEL_HISTORIES=1 \
         cargo test -p meridian-crdt --test model {model}\nrule left out: {broken:?}\n\
         smallest history that fails: {smallest:#?}"
    )
}

/// What happens in a model: drawn from a seed, and any part of it can be left out.
pub(crate) trait RandomHistory: Sized + Debug {
    /// The model's name in the command that replays a failure.
    const MODEL: &str;
    /// The rules that can be left out.
    const RULES: &[Self::Rule];

    type Op: Clone;
    type Rule: Copy + Debug + 'static;
    type Violation: Display;

    fn drawn(seed: u64) -> Self;
    fn ops(&self) -> &[Self::Op];
    fn with(&self, ops: &[Self::Op]) -> Self;
    fn check(&self, broken: Option<Self::Rule>) -> Result<(), Self::Violation>;
}

/// The first failing seed, with what failed.
pub(crate) fn first_failure<H: RandomHistory>(
    mut seeds: impl Iterator<Item = u64>,
    broken: Option<H::Rule>,
) -> Option<(u64, H::Violation)> {
    seeds.find_map(|seed| H::drawn(seed).check(broken).err().map(|what| (seed, what)))
}

/// Runs the histories that the environment asks for, and shows the smallest one that fails.
pub(crate) fn every_history_keeps_its_promises<H: RandomHistory>() {
    let broken = broken_rule(H::RULES);
    if let Some((seed, what)) = first_failure::<H>(seeds(), broken) {
        let history = H::drawn(seed);
        let fails = |ops: &[H::Op]| history.with(ops).check(broken).is_err();
        let smallest = history.with(&shrunk(history.ops().to_vec(), fails));
        panic!("{}", report(H::MODEL, seed, &what, &smallest, &broken));
    }
}

/// Whether no history of a usual run fails without a rule.
pub(crate) fn holds_without<H: RandomHistory>(rule: H::Rule) -> bool {
    first_failure::<H>(0..HISTORIES, Some(rule)).is_none()
}
