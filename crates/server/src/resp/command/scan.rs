//! `SCAN`.

use bytes::Bytes;
use meridian_service::Scan;

use super::{Desk, Understood, integer};
use crate::resp::action::{Action, Filter, Work};
use crate::resp::args::Args;
use crate::resp::error::CommandError;
use crate::resp::glob;

/// Rows looked at where `COUNT` says nothing. Redis takes 10; a page here may be a round trip.
const DEFAULT_COUNT: usize = 100;

/// The cursor is the position on the ring that the page before ended at, as a number; 0 is the
/// beginning and the end. The node keeps nothing between two calls.
pub(super) fn scan(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let invalid = || CommandError::Refused("invalid cursor".to_owned());
    let text = std::str::from_utf8(args.get(1)).ok().ok_or_else(invalid)?;
    let cursor: u64 = text.parse().ok().ok_or_else(invalid)?;
    let mut filter = Filter::default();
    let mut count = DEFAULT_COUNT;
    for n in (2..args.len()).step_by(2) {
        if n + 1 == args.len() {
            return Err(CommandError::Syntax);
        }
        if args.is(n, "MATCH") {
            filter.pattern = Some(args.bytes(n + 1));
        } else if args.is(n, "COUNT") {
            let wanted = usize::try_from(integer(args, n + 1)?).unwrap_or(0);
            if wanted == 0 {
                return Err(CommandError::Syntax);
            }
            // COUNT is a hint: a larger one takes the largest page.
            count = wanted.min(desk.options.limits.data.page_rows);
        } else if args.is(n, "TYPE") {
            filter.nothing |= !args.is(n + 1, "string");
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let prefix = filter.pattern.as_deref().map(glob::literal_prefix).unwrap_or_default();
    let scan = Scan {
        table: desk.session.table.clone(),
        cursor: (cursor != 0).then(|| Bytes::copy_from_slice(&cursor.to_be_bytes())),
        limit: count,
        prefix: Bytes::copy_from_slice(prefix),
        with_values: false,
        consistency: desk.session.level,
    };
    Ok(Action::Run(Work::Scan(scan, filter)))
}
