//! Refusals that a door gives by itself, before there is a request: the same catalogue as the
//! service's errors, with ids below MER-1000. None of them changes
//! anything, where nothing else is said.

use meridian_service::ErrorCode;

/// No password, or a wrong one.
pub(crate) const UNAUTHENTICATED: ErrorCode =
    ErrorCode::new("MER-0001", "unauthenticated", 401, 16, "NOAUTH");
/// Bytes that are not the protocol's.
pub(crate) const MALFORMED: ErrorCode = ErrorCode::new("MER-0002", "malformed", 400, 3, "ERR");
/// A request over the limit of its bytes.
pub(crate) const TOO_LARGE: ErrorCode = ErrorCode::new("MER-0003", "too_large", 413, 11, "ERR");
/// No such path, method or command.
pub(crate) const UNKNOWN_ROUTE: ErrorCode =
    ErrorCode::new("MER-0004", "unknown_route", 404, 12, "ERR");
/// The door has its maximum of connections. Written out by hand in each door's refusal.
#[cfg(test)]
pub(crate) const DOOR_FULL: ErrorCode = ErrorCode::new("MER-0005", "door_full", 503, 8, "ERR");
/// The key has no value: on REST, where that is a status.
pub(crate) const NO_VALUE: ErrorCode = ErrorCode::new("MER-0006", "no_value", 404, 5, "ERR");
/// The condition of a write did not hold: on REST, where that is a status.
pub(crate) const CONDITION: ErrorCode =
    ErrorCode::new("MER-0007", "condition_failed", 412, 9, "ERR");
/// The service answered with another kind of outcome: a bug in this node.
pub(crate) const BUG: ErrorCode = ErrorCode::new("MER-0008", "internal", 500, 13, "ERR");
/// The client did not send its request in time. It may have come to its end at the last moment,
/// so its effect is unknown.
pub(crate) const TOO_SLOW: ErrorCode = ErrorCode::new("MER-0009", "too_slow", 408, 4, "ERR");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../../docs/errors.md");
        let own = [
            UNAUTHENTICATED,
            MALFORMED,
            TOO_LARGE,
            UNKNOWN_ROUTE,
            DOOR_FULL,
            NO_VALUE,
            CONDITION,
            BUG,
            TOO_SLOW,
        ];
        for code in own.iter().chain(&ErrorCode::EVERY) {
            let row = format!("| {} | `{}` | {} | {} |", code.id, code.name, code.http, code.grpc);
            assert!(page.contains(&row), "docs/errors.md has no row `{row}`");
        }
    }
}
