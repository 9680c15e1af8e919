//! Every metric's name. Counters get `_total` behind theirs, times `_seconds`.

/// Before every name.
pub(crate) const PREFIX: &str = "meridian";

/// A name and what it counts.
pub(crate) type Named = (&'static str, &'static str);

pub(crate) const REQUEST_DURATION: Named =
    ("request_duration", "Time from a request's arrival at a door to its answer");
pub(crate) const REQUEST_ERRORS: Named =
    ("request_errors", "Requests that were answered with an error, by its code");

pub(crate) const DOOR_CONNECTIONS: Named = ("door_connections", "Connections that are open");
pub(crate) const DOOR_ACCEPTED: Named = ("door_accepted", "Connections that were accepted");
pub(crate) const DOOR_REFUSED: Named =
    ("door_refused", "Connections that were refused because the door was full");
pub(crate) const DOOR_MALFORMED: Named =
    ("door_malformed", "Connections that were closed because of malformed input");

pub(crate) const REPLICA_ACKS: Named = ("replica_acks", "Requests that a replica acknowledged");
pub(crate) const REPLICA_FAILURES: Named =
    ("replica_failures", "Requests that a replica answered with a failure");
pub(crate) const REPLICA_SILENCES: Named =
    ("replica_silences", "Requests that a replica did not answer in time");
pub(crate) const REPLICA_DURATION: Named =
    ("replica_duration", "Time from asking a replica to its answer");

pub(crate) const HINTS_STORED: Named = ("hints_stored", "Hints that were stored for a peer");
pub(crate) const HINTS_DELIVERED: Named =
    ("hints_delivered", "Hints that a peer took, or no longer needed");
pub(crate) const HINTS_DROPPED: Named =
    ("hints_dropped", "Hints that were given up: anti-entropy has to bring what they held");
pub(crate) const HINTS_PENDING: Named = ("hints_pending", "Hints that wait for a peer");

pub(crate) const CLOCK_LAG: Named = (
    "clock_lag_dots",
    "Writes that this node knows of and the peer lacked at the last exchange of clocks",
);
pub(crate) const CLOCK_BEHIND: Named = (
    "clock_behind_dots",
    "Writes that the peer knows of and this node lacked at the last exchange of clocks",
);
pub(crate) const CLOCK_BEHIND_TIME: Named = (
    "clock_behind_milliseconds",
    "Age of the oldest write that the peer has and this node lacked at the last exchange of clocks",
);
pub(crate) const DIFFERING_VNODES: Named =
    ("differing_vnodes", "Vnodes whose clocks differed at the last exchange");
pub(crate) const ANTI_ENTROPY_ROUNDS: Named =
    ("anti_entropy_rounds", "Exchanges of clocks with a peer that came to their end");
pub(crate) const ANTI_ENTROPY_FAILURES: Named =
    ("anti_entropy_failures", "Exchanges or pulls that broke off");
pub(crate) const ANTI_ENTROPY_ROWS: Named =
    ("anti_entropy_rows", "Rows that were pulled from a peer");

pub(crate) const LINK_UP: Named = ("link_up", "1 while the link to a peer is up, 0 otherwise");
pub(crate) const LINK_CONNECTS: Named = ("link_connects", "Times that a link came up");
pub(crate) const LINK_SENT_BYTES: Named = ("link_sent_bytes", "Bytes sent to a peer");
pub(crate) const LINK_RECEIVED_BYTES: Named = ("link_received_bytes", "Bytes received from a peer");
pub(crate) const LINK_QUEUED: Named = ("link_queued", "Messages that wait to be sent to a peer");
pub(crate) const LINK_ROUND_TRIP: Named =
    ("link_round_trip", "Time of a keep-alive to a peer and back");

pub(crate) const READ_REPAIRS: Named =
    ("read_repairs", "Replicas that a read brought up to date, before or after its answer");
pub(crate) const DIGEST_MISMATCHES: Named =
    ("digest_mismatches", "Reads whose replicas' digests differed");

pub(crate) const HINTS: Named =
    ("hints", "Hints by what became of them since the start; found and stored are all the others");
pub(crate) const STORAGE: Named =
    ("storage", "A figure of the storage engine; its name says what and in which unit");

pub(crate) const REFUSED: Named = (
    "requests_refused",
    "Requests that were not begun: they would have waited for too long, or too many bytes waited",
);
pub(crate) const LATE: Named =
    ("late_work_left_out", "Steps of requests that nobody waited for any more");
pub(crate) const WAITING_BYTES: Named =
    ("waiting_bytes", "Keys and values of the requests whose clients wait");
pub(crate) const LAG: Named = ("lag_ms", "How late timers fire: what waits for the processor");
