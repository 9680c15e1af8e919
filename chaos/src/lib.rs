//! The world that tries to break it.
//!
//! Here now: link proxies, which stand between real processes of different datacenters and make
//! their links slow, jittery or cut ([`LinkProxies`]), without root or kernel modules. `meridian
//! dev` routes every link between datacenters through them. And a simulated world:
//! whole nodes ([`world`]) on time, chance, tasks, disks and links that are the same for the same
//! seed ([`sim`]).
//!
//! Knows: links, and what may happen to them.
//! Must not know: what is said over them.
//!
//! Invariants:
//! - A connection that both ends keep open delivers every byte, in order, once, whatever happened
//!   to its link in between: a link loses time, as TCP does, never bytes.
//! - Nothing passes a cut link, not even the end of a connection.
#![deny(missing_docs)]

pub mod check;
pub mod fault;
pub mod figures;
pub mod history;
pub mod parallel;
mod proxy;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod sim;
pub mod simulate;
mod workload;
pub mod world;

pub use proxy::{Conditions, LinkProxies, ProxyError, ProxySpec, WayStatus};
