//! Commands about keys, whatever they hold.

use meridian_service::Request;

use super::strings::{read, read_many};
use super::{Desk, Understood};
use crate::resp::action::{Action, Shape, Work};
use crate::resp::args::Args;

pub(super) fn del(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    Ok(Action::Run(Work::Delete {
        table: desk.session.table.clone(),
        keys: args.from(1).collect(),
        consistency: desk.session.level,
    }))
}

pub(super) fn exists(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    Ok(Action::Run(Work::Ask(read_many(desk, args), Shape::Present)))
}

pub(super) fn kind(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let get = read(desk, args.bytes(1));
    Ok(Action::Run(Work::Ask(Request::Get(get), Shape::Type)))
}
