//! `GET`, `SET` and their kin.

use bytes::Bytes;
use meridian_service::{Batch, Condition, Expiry, Get, MultiGet, Put, PutItem, Request};
use meridian_types::Millis;

use super::{Desk, Understood, integer};
use crate::clock;
use crate::resp::action::{Action, Shape, Work};
use crate::resp::args::Args;
use crate::resp::error::CommandError;

pub(super) fn read(desk: &Desk<'_>, key: Bytes) -> Get {
    Get {
        table: desk.session.table.clone(),
        key,
        consistency: desk.session.level,
        with_context: false,
    }
}

pub(super) fn item(key: Bytes, value: Bytes, expiry: Expiry) -> PutItem {
    PutItem { key, value: Some(value), expiry, context: None, write_id: None }
}

fn write(desk: &Desk<'_>, item: PutItem, condition: Option<Condition>) -> Put {
    Put {
        table: desk.session.table.clone(),
        item,
        condition,
        consistency: desk.session.level,
        with_context: false,
    }
}

pub(super) fn get(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let get = read(desk, args.bytes(1));
    Ok(Action::Run(Work::Ask(Request::Get(get), Shape::Value)))
}

pub(super) fn strlen(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let get = read(desk, args.bytes(1));
    Ok(Action::Run(Work::Ask(Request::Get(get), Shape::Length)))
}

/// The options behind `SET key value`.
#[derive(Default)]
struct SetOptions {
    expiry: Option<Expiry>,
    condition: Option<Condition>,
    get: bool,
}

/// How the number behind an expiry option is meant.
#[derive(Clone, Copy)]
struct Unit {
    millis: i64,
    absolute: bool,
}

const EX: Unit = Unit { millis: 1_000, absolute: false };
const PX: Unit = Unit { millis: 1, absolute: false };
const EXAT: Unit = Unit { millis: 1_000, absolute: true };
const PXAT: Unit = Unit { millis: 1, absolute: true };

/// An expiry that must be positive, as for `SET`.
fn positive(n: i64, unit: Unit, command: &'static str) -> Result<Expiry, CommandError> {
    let invalid = || CommandError::Expiry(command);
    if n <= 0 {
        return Err(invalid());
    }
    let millis = n.checked_mul(unit.millis).ok_or_else(invalid)?;
    let base = if unit.absolute { 0 } else { i64::try_from(clock::now().0).unwrap_or(i64::MAX) };
    let at = base.checked_add(millis).ok_or_else(invalid)?;
    Ok(Expiry::At(Millis(at.unsigned_abs())))
}

fn set_options(args: Args<'_>) -> Result<SetOptions, CommandError> {
    let mut options = SetOptions::default();
    let mut n = 3;
    while n < args.len() {
        let unit = [("EX", EX), ("PX", PX), ("EXAT", EXAT), ("PXAT", PXAT)]
            .into_iter()
            .find_map(|(word, unit)| args.is(n, word).then_some(unit));
        if let Some(unit) = unit {
            if options.expiry.is_some() || n + 1 == args.len() {
                return Err(CommandError::Syntax);
            }
            options.expiry = Some(positive(integer(args, n + 1)?, unit, "set")?);
            n += 1;
        } else if args.is(n, "KEEPTTL") && options.expiry.is_none() {
            options.expiry = Some(Expiry::Keep);
        } else if args.is(n, "NX") && options.condition.is_none() {
            options.condition = Some(Condition::Absent);
        } else if args.is(n, "XX") && options.condition.is_none() {
            options.condition = Some(Condition::Present);
        } else if args.is(n, "GET") {
            options.get = true;
        } else {
            return Err(CommandError::Syntax);
        }
        n += 1;
    }
    Ok(options)
}

pub(super) fn set(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let SetOptions { expiry, condition, get } = set_options(args)?;
    let item = item(args.bytes(1), args.bytes(2), expiry.unwrap_or_default());
    let put = write(desk, item, condition);
    Ok(Action::Run(match (get, condition) {
        (true, _) => Work::Swap(put),
        (false, None) => Work::Ask(Request::Put(put), Shape::Done),
        (false, Some(_)) => Work::Ask(Request::Put(put), Shape::DoneIf),
    }))
}

pub(super) fn setnx(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let item = item(args.bytes(1), args.bytes(2), Expiry::TableDefault);
    let put = write(desk, item, Some(Condition::Absent));
    Ok(Action::Run(Work::Ask(Request::Put(put), Shape::Applied)))
}

pub(super) fn setex(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    set_with(desk, args, positive(integer(args, 2)?, EX, "setex")?)
}

pub(super) fn psetex(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    set_with(desk, args, positive(integer(args, 2)?, PX, "psetex")?)
}

fn set_with(desk: &Desk<'_>, args: Args<'_>, expiry: Expiry) -> Understood {
    let put = write(desk, item(args.bytes(1), args.bytes(3), expiry), None);
    Ok(Action::Run(Work::Ask(Request::Put(put), Shape::Done)))
}

pub(super) fn mget(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    Ok(Action::Run(Work::Ask(read_many(desk, args), Shape::Values)))
}

pub(super) fn read_many(desk: &Desk<'_>, args: Args<'_>) -> Request {
    Request::MultiGet(MultiGet {
        table: desk.session.table.clone(),
        keys: args.from(1).collect(),
        consistency: desk.session.level,
        with_context: false,
    })
}

pub(super) fn mset(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::Arity("mset".to_owned()));
    }
    let pair = |n| item(args.bytes(n), args.bytes(n + 1), Expiry::TableDefault);
    let batch = Batch {
        table: desk.session.table.clone(),
        items: (1..args.len()).step_by(2).map(pair).collect(),
        consistency: desk.session.level,
    };
    Ok(Action::Run(Work::Ask(Request::Batch(batch), Shape::AllDone)))
}
