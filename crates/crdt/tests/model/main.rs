//! Random model checks of the causal core, on the crate's real types.
//!
//! [`siblings`] runs whole vnodes of `siblings` rows (design rules 1 to 10), [`lww`] those of
//! last-write-wins rows and the forgetting of their markers (rule 12). [`damage`] lets replicas lose
//! things, several at once (rule 10), [`closing`] closes ended incarnations (rule 13), and
//! [`intents`] repeats writes that somebody keeps until they are done (rules 11 and 14). All draw
//! histories from a seed, with loss, duplication, late delivery, broken pulls, crashes that lose
//! the unsynced tail, restored checkpoints and lost tables, and compare what replicas show with an
//! oracle that knows everything that happened. `Mutation` in each leaves one rule out and expects
//! the check to fail.
//!
//! Environment, for long runs and for replays:
//! - `MERIDIAN_MODEL_HISTORIES`: how many histories to run (default [`support::HISTORIES`]);
//! - `MERIDIAN_MODEL_SEED`: the first seed; with `MERIDIAN_MODEL_HISTORIES=1` it replays one;
//! - `MERIDIAN_MODEL_BREAK`: a rule to leave out, by its variant's name in `mutations`, to search
//!   for a history in which that rule matters. The check fails and prints the history, shrunk.

mod closing;
mod damage;
mod intents;
mod lww;
mod siblings;
mod support;
