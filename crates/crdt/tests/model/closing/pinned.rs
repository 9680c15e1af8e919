//! Histories for the rules that random search breaks only rarely.

use super::history::{History, Op};

/// The oldest message arrives.
const DELIVER: Op = Op::Deliver { pick: 0, twice: false, lost: false };

const fn write(at: usize) -> Op {
    Op::Write { at, client: 0, marker: false }
}

/// Replica 1 alone has a dot of the ended actor, and is told of the fence by a pull. Replica 0, which
/// has reported, pulls the dot from it. A crash takes dot and fence back, and replica 1 reports
/// that it has nothing.
pub(super) fn fence_taken_back() -> History {
    let ops = vec![
        write(0),
        Op::Crash { at: 0 },
        DELIVER,
        Op::Propose { pick: 0 },
        Op::Fence { at: 0 },
        Op::Pull { to: 1, from: 0 },
        Op::Pull { to: 0, from: 1 },
        Op::Crash { at: 1 },
        Op::Fence { at: 1 },
    ];
    History { replicas: 2, ops }
}

/// A checkpoint has a dot that was lost afterwards, and what it had replaced is gone from it. The
/// dot is void for everybody by the time the checkpoint is put back.
pub(super) fn void_in_a_checkpoint() -> History {
    let ops = vec![
        write(1),
        DELIVER,
        Op::Sync { at: 0 },
        Op::Read { at: 0, client: 0 },
        write(0),
        Op::Checkpoint { at: 0 },
        Op::Crash { at: 0 },
        Op::Propose { pick: 0 },
        Op::Fence { at: 0 },
        Op::Fence { at: 1 },
        Op::Close { at: 0 },
        Op::Close { at: 1 },
        Op::Restore { at: 0 },
        Op::Pull { to: 0, from: 1 },
    ];
    History { replicas: 2, ops }
}
