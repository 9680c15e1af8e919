//! The scenarios that are part of the program.

use super::{Scenario, ScenarioError};

/// By name, in the order of the alphabet.
const SHIPPED: &[(&str, &str)] = &[
    ("anti-entropy-alone", include_str!("../../scenarios/anti-entropy-alone.toml")),
    ("any-intents", include_str!("../../scenarios/any-intents.toml")),
    ("calm", include_str!("../../scenarios/calm.toml")),
    ("crash-always", include_str!("../../scenarios/crash-always.toml")),
    ("crash-loop", include_str!("../../scenarios/crash-loop.toml")),
    ("crash-unsynced-tail", include_str!("../../scenarios/crash-unsynced-tail.toml")),
    ("dc-partition", include_str!("../../scenarios/dc-partition.toml")),
    ("disk-wiped", include_str!("../../scenarios/disk-wiped.toml")),
    ("expiring-rows", include_str!("../../scenarios/expiring-rows.toml")),
    ("flapping-link", include_str!("../../scenarios/flapping-link.toml")),
    ("full-disk", include_str!("../../scenarios/full-disk.toml")),
    ("jepsen-forgotten-counter", include_str!("../../scenarios/jepsen-forgotten-counter.toml")),
    ("jepsen-half-batch", include_str!("../../scenarios/jepsen-half-batch.toml")),
    ("jepsen-hints-lost-on-leave", include_str!("../../scenarios/jepsen-hints-lost-on-leave.toml")),
    ("jepsen-late-hint", include_str!("../../scenarios/jepsen-late-hint.toml")),
    ("jepsen-lww-ties", include_str!("../../scenarios/jepsen-lww-ties.toml")),
    ("jepsen-retried-write", include_str!("../../scenarios/jepsen-retried-write.toml")),
    ("jepsen-skewed-clocks", include_str!("../../scenarios/jepsen-skewed-clocks.toml")),
    ("jepsen-wrong-answer", include_str!("../../scenarios/jepsen-wrong-answer.toml")),
    ("long-absence", include_str!("../../scenarios/long-absence.toml")),
    ("lossy-datagrams", include_str!("../../scenarios/lossy-datagrams.toml")),
    ("mixed", include_str!("../../scenarios/mixed.toml")),
    ("old-checkpoint-restored", include_str!("../../scenarios/old-checkpoint-restored.toml")),
    ("one-way-partition", include_str!("../../scenarios/one-way-partition.toml")),
    ("overload", include_str!("../../scenarios/overload.toml")),
    ("paused-node", include_str!("../../scenarios/paused-node.toml")),
    ("power-cut-synced", include_str!("../../scenarios/power-cut-synced.toml")),
    ("power-cut-whole-dc", include_str!("../../scenarios/power-cut-whole-dc.toml")),
    ("read-after-crash", include_str!("../../scenarios/read-after-crash.toml")),
    ("read-after-crash-global", include_str!("../../scenarios/read-after-crash-global.toml")),
    ("read-after-wipe", include_str!("../../scenarios/read-after-wipe.toml")),
    ("read-before-sync", include_str!("../../scenarios/read-before-sync.toml")),
    ("rolling-restart", include_str!("../../scenarios/rolling-restart.toml")),
    ("rotten-block", include_str!("../../scenarios/rotten-block.toml")),
    ("sessions", include_str!("../../scenarios/sessions.toml")),
    ("several-damaged", include_str!("../../scenarios/several-damaged.toml")),
    ("slow-disk", include_str!("../../scenarios/slow-disk.toml")),
    ("slow-link-jitter", include_str!("../../scenarios/slow-link-jitter.toml")),
    ("whole-cluster-restored", include_str!("../../scenarios/whole-cluster-restored.toml")),
];

/// The names of the scenarios that are part of the program.
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The scenarios that are part of the program.
pub fn shipped() -> impl Iterator<Item = Result<Scenario, ScenarioError>> {
    SHIPPED.iter().map(|(_, text)| Scenario::parse(text))
}

/// A scenario that is part of the program.
///
/// # Errors
/// There is none of this name; the error lists the names.
pub fn named(name: &str) -> Result<Scenario, ScenarioError> {
    let found = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
    let (_, text) = found.ok_or_else(|| ScenarioError::Unknown {
        name: name.to_owned(),
        known: names().collect::<Vec<_>>().join(", "),
    })?;
    Scenario::parse(text)
}
