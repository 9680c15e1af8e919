//! Rules that a build for the mutation tests can leave out, to show that a check notices.
//!
//! A check that nothing can break proves nothing. So each invariant of the simulator is shown
//! to fail when the rule that it watches is broken, and the break sits where the rule is:
//! `if broken(Mutation::X) { .. }`. In every other build [`broken`] is a constant `false` and
//! the branch is gone. Built by `RUSTFLAGS="--cfg meridian_mutations"`, never by a feature:
//! features are added up over a build, and no user may get one of these by accident.

/// A rule that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mutation {
    /// Of a datacenter only a minority is hurt at one time (the simulator's own rule).
    BudgetIgnored,
}

#[cfg(meridian_mutations)]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static BROKEN: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Whether this thread runs with a rule left out.
    #[must_use]
    pub fn broken(rule: Mutation) -> bool {
        BROKEN.get() == Some(rule)
    }

    /// Leaves a rule out, on this thread only: a simulated world is one thread, so tests of
    /// several rules run beside each other.
    pub fn leave_out(rule: Option<Mutation>) {
        BROKEN.set(rule);
    }
}

#[cfg(meridian_mutations)]
pub use switch::{broken, leave_out};

/// Whether a rule is left out: never, in this build.
#[cfg(not(meridian_mutations))]
#[must_use]
#[inline(always)]
pub const fn broken(_rule: Mutation) -> bool {
    false
}
