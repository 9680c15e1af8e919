//! What a replica remembers of its way back, and what it says of itself.

use std::collections::BTreeSet;

/// What a replica that lost more than its tail, or never had anything, knows of its way back.
#[derive(Clone)]
pub(super) struct Rebuild {
    /// Nothing was found: it may be new, or its disk is.
    pub(super) fresh: bool,
    /// The peers pulled from in full since the last loss that it knows of, its own or a peer's.
    pub(super) swept: BTreeSet<usize>,
    /// Rises when it begins with the peers all over again.
    pub(super) round: u32,
    /// The losses of peers, by their numbers, that it has taken note of.
    pub(super) heard_of: BTreeSet<(usize, u32)>,
    /// Whether one of the peers had never lost what it had, or had made up for it.
    pub(super) found_sound: bool,
    /// Whether one of the peers was not fresh.
    pub(super) found_older: bool,
    /// An operator accepts what was lost.
    pub(super) accepted: bool,
}

impl Rebuild {
    pub(super) fn begun(fresh: bool) -> Self {
        Self {
            fresh,
            swept: BTreeSet::new(),
            round: 0,
            heard_of: BTreeSet::new(),
            found_sound: false,
            found_older: false,
            accepted: false,
        }
    }

    /// Whether what is lost for good is known to be so.
    pub(super) fn may_answer(&self) -> bool {
        self.found_sound || self.accepted
    }
}

/// What a replica says of itself to whoever pulls from it.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    /// The most replicas that a read may wait for if this one is to be among them.
    pub(super) level: usize,
    /// The number of its last loss, 0 if it never had one.
    pub(super) loss: u32,
    pub(super) rebuilding: bool,
    pub(super) fresh: bool,
}
