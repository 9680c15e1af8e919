//! When keys expire.

use meridian_service::{Expiry, Request, Touch};
use meridian_types::Millis;

use super::strings::read;
use super::{Desk, Understood, integer};
use crate::clock;
use crate::resp::action::{Action, ExpiryShape, Shape, TouchRule, Work};
use crate::resp::args::Args;
use crate::resp::error::CommandError;

pub(super) fn expire(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    change(desk, args, 1_000, false, "expire")
}

pub(super) fn pexpire(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    change(desk, args, 1, false, "pexpire")
}

pub(super) fn expireat(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    change(desk, args, 1_000, true, "expireat")
}

pub(super) fn pexpireat(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    change(desk, args, 1, true, "pexpireat")
}

/// Sets an expiry; one that is past deletes the key, as in Redis.
fn change(
    desk: &Desk<'_>,
    args: Args<'_>,
    unit: i64,
    absolute: bool,
    command: &'static str,
) -> Understood {
    let invalid = || CommandError::Expiry(command);
    let now = clock::now();
    let base = if absolute { 0 } else { i64::try_from(now.0).unwrap_or(i64::MAX) };
    let at = integer(args, 2)?
        .checked_mul(unit)
        .and_then(|millis| millis.checked_add(base))
        .ok_or_else(invalid)?;
    let at = Millis(u64::try_from(at).unwrap_or(0));
    let touch = touch(desk, args, Expiry::At(at));
    let rule = rule(args)?;
    Ok(Action::Run(match rule {
        Some(rule) => Work::TouchIf(touch, rule),
        None if at <= now => {
            let (table, keys) = (touch.table, vec![touch.key]);
            Work::Delete { table, keys, consistency: touch.consistency }
        }
        None => Work::Ask(Request::Touch(touch), Shape::Existed),
    }))
}

fn touch(desk: &Desk<'_>, args: Args<'_>, expiry: Expiry) -> Touch {
    Touch {
        table: desk.session.table.clone(),
        key: args.bytes(1),
        expiry,
        consistency: desk.session.level,
    }
}

fn rule(args: Args<'_>) -> Result<Option<TouchRule>, CommandError> {
    let rules = [
        ("NX", TouchRule::None),
        ("XX", TouchRule::Some),
        ("GT", TouchRule::Later),
        ("LT", TouchRule::Sooner),
    ];
    match args.len() {
        3 => Ok(None),
        4 => {
            let found = rules.into_iter().find_map(|(word, rule)| args.is(3, word).then_some(rule));
            let refused = || CommandError::Refused(format!("Unsupported option {}", args.text(3)));
            found.map(Some).ok_or_else(refused)
        }
        _ => Err(CommandError::Refused("one of NX, XX, GT and LT can be given".to_owned())),
    }
}

pub(super) fn persist(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let touch = touch(desk, args, Expiry::Never);
    Ok(Action::Run(Work::Ask(Request::Touch(touch), Shape::Changed)))
}

fn tell(desk: &Desk<'_>, args: Args<'_>, shape: ExpiryShape) -> Understood {
    let get = read(desk, args.bytes(1));
    Ok(Action::Run(Work::Ask(Request::Get(get), Shape::Expiry(shape))))
}

pub(super) fn ttl(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    tell(desk, args, ExpiryShape::Seconds)
}

pub(super) fn pttl(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    tell(desk, args, ExpiryShape::Millis)
}

pub(super) fn expiretime(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    tell(desk, args, ExpiryShape::AtSeconds)
}

pub(super) fn pexpiretime(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    tell(desk, args, ExpiryShape::AtMillis)
}
