//! Names of spans and of their fields: the same on every node, so that logs of several can be
//! joined by request.

/// The span of one request at the node that coordinates it.
pub const REQUEST: &str = "request";
/// The span of a replica's part in a request.
pub const REPLICA: &str = "replica";
/// The span of one client connection.
pub const CONNECTION: &str = "connection";

/// The request's id, a UUID.
pub const REQUEST_ID: &str = "request_id";
/// xxh3 of the key, 16 hexadecimal digits. The key itself is a client's and stays out of logs.
pub const KEY_HASH: &str = "key_hash";
/// The consistency level's name.
pub const CONSISTENCY: &str = "consistency";
/// The datacenter of the node that logs.
pub const DATACENTER: &str = "dc";
/// The node that logs.
pub const NODE: &str = "node";
/// The other node.
pub const PEER: &str = "peer";
/// The vnode concerned.
pub const VNODE: &str = "vnode";
/// The table concerned.
pub const TABLE: &str = "table";
/// The operation, as [`crate::Operation::name`] has it.
pub const OPERATION: &str = "operation";
/// The door, as [`crate::Door::name`] has it.
pub const DOOR: &str = "door";
/// An error's code, `MER-nnnn`.
pub const CODE: &str = "code";

/// A state machine's state before a transition.
pub const PREVIOUS: &str = "prev";
/// What made a state machine move.
pub const EVENT: &str = "event";
/// A state machine's state after a transition.
pub const NEXT: &str = "next";
