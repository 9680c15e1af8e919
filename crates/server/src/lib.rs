//! Three doors, one house: RESP, REST and gRPC over one [`Service`](meridian_service::Service).
//!
//! A door translates: bytes into a `Request`, an `Outcome` or a `RequestError` back into bytes.
//! What one door can do the others can, with the same limits, the same errors and the same words
//! for what happened to the data. `docs/protocols.md` says it for users, `docs/errors.md` lists
//! the errors, `docs/redis.md` the differences from Redis.
//!
//! Knows: protocols, sessions, limits, who may come in.
//! Must not know: the ring, replicas, storage.
//!
//! Invariants:
//! - Nothing that comes in makes a door panic, hang, or keep more memory than [`DoorLimits`] says.
//! - A request that a door refuses has changed nothing; every answer about a failed write says
//!   `not_applied` or `unknown`.
//! - Answers on one RESP connection come in the order of its commands, and two commands that touch
//!   one key never run at the same time on it.
#![deny(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "a door measures how long requests take and turns relative expiries into times"
)]

mod clock;
mod codes;
mod doors;
mod front;
mod grpc;
mod health;
mod http;
mod listener;
mod options;
mod password;
mod resp;
mod rest;

pub use doors::{DoorError, Doors};
pub use health::{Check, CheckStatus, Health, HealthSource};
pub use options::{DoorAddresses, DoorLimits, DoorsOptions};
pub use password::Password;
