//! The simulated world: one thread, one seed, no real time.
//!
//! ```text
//!   loop { poll every task that is ready; none left: take the earliest event, do it at its time }
//! ```
//!
//! Here now: what such a world stands on. [`Executor`] runs tasks, [`Queue`] holds what will
//! happen, [`Streams`] is all the chance there is, [`Host`] is what a life of a node runs on, with
//! a [`NodeClock`] that may be wrong, [`Fabric`] is the links between nodes, [`NodeLinks`]
//! what one life sees of it, and [`Trace`] shows that two runs did the same.
//!
//! Invariant: the same seed gives the same trace. So nothing here reads a clock, uses another
//! source of chance than [`Draw`], or depends on addresses or on a hasher's seed.

mod carrier;
mod clock;
mod disk;
mod draw;
mod executor;
mod host;
mod link;
mod network;
mod queue;
#[cfg(test)]
mod tests;
mod trace;

pub use carrier::{Carrier, Counted};
pub use clock::{Micros, NodeClock};
pub use disk::{Disk, DiskSnapshot, DiskTiming, Loss, Pace, Part, Rot, Rotten};
pub use draw::{Draw, Purpose, Streams};
pub use executor::{Executor, Livelock, Order, Owner, Spawner, Task};
pub use host::{Agenda, Host, HostEvent, Sleep, Work};
pub use link::{
    Datagrams, Death, End, Fabric, LinkActions, LinkEvent, LinkTiming, StreamId, Told, Way,
};
pub use network::{Network, NodeLinks, SimLinker, Tap};
pub use queue::Queue;
pub use trace::{Line, Trace};
