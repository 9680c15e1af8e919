//! What replicas must have told each other before one of them may forget (rules 8 and 12).

use std::collections::BTreeMap;

use meridian_types::Hlc;

use crate::{Actor, Dot, VnodeClock};

/// What a life of a node says of its writes to a vnode: every dot up to `counter` may have any
/// stamp, every later one has a stamp above `stamp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// The last dot that may have a stamp up to the promised one.
    pub counter: u64,
    /// The promised stamp.
    pub stamp: Hlc,
}

impl Promise {
    /// That of a life of which no more than the name is left, or whose last writes may be known to
    /// others alone: nobody ever has all its dots.
    pub const UNKNOWN: Self = Self { counter: u64::MAX, stamp: Hlc::ZERO };
}

/// What a replica told of a vnode, for others to forget by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What a crash cannot take back.
    pub clock: VnodeClock,
    /// What its lives promise that are not closed, the present one among them. None: it speaks for
    /// tables that keep siblings alone.
    pub promises: BTreeMap<Actor, Promise>,
}

impl Evidence {
    /// Whether all of these durably know a dot (rule 8).
    #[must_use]
    pub fn is_known<'a>(told: impl IntoIterator<Item = &'a Self>, dot: Dot) -> bool {
        told.into_iter().all(|evidence| evidence.clock.contains(dot))
    }

    /// Up to this stamp all of these durably know every write (rule 12). They must be all replicas
    /// of the vnode.
    ///
    /// A life that somebody has a dot of and that nobody speaks for holds it at zero.
    #[must_use]
    pub fn stable_stamp<'a>(told: impl IntoIterator<Item = &'a Self> + Clone) -> Hlc {
        let mut promises: BTreeMap<Actor, Promise> = BTreeMap::new();
        for evidence in told.clone() {
            if evidence.promises.is_empty() {
                return Hlc::ZERO;
            }
            promises.extend(&evidence.promises);
        }
        let actors = told.clone().into_iter().flat_map(|evidence| evidence.clock.dots().actors());
        if actors.map(|(actor, _)| actor).any(|actor| !promises.contains_key(&actor)) {
            return Hlc::ZERO;
        }
        let up_to = |(actor, promise): (&Actor, &Promise)| {
            let mut bases = told.clone().into_iter().map(|evidence| evidence.clock.base(*actor));
            if bases.all(|base| base >= promise.counter) { promise.stamp } else { Hlc::ZERO }
        };
        promises.iter().map(up_to).min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::{Incarnation, NodeId};

    use super::*;

    fn actor(node: u32) -> Actor {
        Actor { node: NodeId(node), incarnation: Incarnation(7) }
    }

    fn told(node: u32, promise: Promise, bases: &[(u32, u64)]) -> Evidence {
        let mut clock = VnodeClock::default();
        for (of, base) in bases {
            (1..=*base).for_each(|counter| _ = clock.insert(Dot::new(actor(*of), counter)));
        }
        Evidence { clock, promises: BTreeMap::from([(actor(node), promise)]) }
    }

    fn promise(counter: u64, stamp: u64) -> Promise {
        Promise { counter, stamp: Hlc(stamp) }
    }

    #[test]
    fn a_dot_is_known_when_everybody_has_it() {
        let one = told(1, Promise::default(), &[(1, 2)]);
        let other = told(2, Promise::default(), &[(1, 1)]);
        assert!(Evidence::is_known([&one, &other], Dot::new(actor(1), 1)));
        assert!(!Evidence::is_known([&one, &other], Dot::new(actor(1), 2)));
    }

    #[test]
    fn stable_is_the_least_that_all_have_everything_of() {
        let one = told(1, promise(2, 20), &[(1, 2), (2, 1)]);
        let two = told(2, promise(1, 30), &[(1, 2), (2, 1)]);
        assert_eq!(Evidence::stable_stamp([&one, &two]), Hlc(20));
        let behind = told(2, promise(1, 30), &[(1, 1), (2, 1)]);
        assert_eq!(Evidence::stable_stamp([&one, &behind]), Hlc::ZERO);
        let idle = told(2, promise(0, 10), &[(1, 2)]);
        assert_eq!(Evidence::stable_stamp([&one, &idle]), Hlc(10));
    }

    #[test]
    fn who_is_not_spoken_for_holds_all_back() {
        let one = told(1, promise(1, 20), &[(1, 1), (3, 1)]);
        let two = told(2, promise(0, 30), &[(1, 1)]);
        assert_eq!(Evidence::stable_stamp([&one, &two]), Hlc::ZERO, "life 3 may have written more");
        let mut ended = told(2, promise(0, 30), &[(1, 1)]);
        ended.promises.insert(actor(4), Promise::UNKNOWN);
        let one = told(1, promise(1, 20), &[(1, 1)]);
        assert_eq!(Evidence::stable_stamp([&one, &ended]), Hlc::ZERO);
        let silent = Evidence { promises: BTreeMap::new(), ..ended };
        assert_eq!(Evidence::stable_stamp([&one, &silent]), Hlc::ZERO);
        assert_eq!(Evidence::stable_stamp([]), Hlc::ZERO);
    }
}
