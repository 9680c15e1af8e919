//! Commands about the connection itself.

use meridian_types::ConsistencyLevel;

use super::{Desk, Understood, integer, unknown_part};
use crate::resp::action::Action;
use crate::resp::args::Args;
use crate::resp::error::CommandError;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::session::{Answers, DATABASES, Session, database};

/// The version of Redis whose commands these are: clients look at it to know what they may send.
pub(in crate::resp) const REDIS_VERSION: &str = "7.2.0";
/// Longest name of a connection, in bytes. Each is kept as long as its connection.
const MAX_NAME: usize = 128;

fn ok() -> Understood {
    Ok(Action::Reply(Reply::OK))
}

pub(super) fn ping(_: &mut Desk<'_>, args: Args<'_>) -> Understood {
    match args.len() {
        1 => Ok(Action::Reply(Reply::Simple("PONG"))),
        2 => Ok(Action::Reply(Reply::Bulk(args.bytes(1)))),
        _ => Err(CommandError::Arity("ping".to_owned())),
    }
}

pub(super) fn echo(_: &mut Desk<'_>, args: Args<'_>) -> Understood {
    Ok(Action::Reply(Reply::Bulk(args.bytes(1))))
}

pub(super) fn quit(_: &mut Desk<'_>, _: Args<'_>) -> Understood {
    Ok(Action::Quit)
}

pub(super) fn reset(desk: &mut Desk<'_>, _: Args<'_>) -> Understood {
    let fresh = Session::new(desk.session.id, desk.options);
    *desk.session = fresh.map_err(|why| CommandError::Refused(why.to_string()))?;
    show(desk);
    Ok(Action::Reply(Reply::Simple("RESET")))
}

/// Writes what the connection chose into the list of clients.
fn show(desk: &Desk<'_>) {
    let session = &desk.session;
    desk.clients.change(session.id, |client| {
        client.name.clone_from(&session.name);
        client.database = session.database.map_or(session.table.to_string(), |n| n.to_string());
        client.protocol = version(session.protocol);
    });
}

fn version(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    }
}

fn sign_in(desk: &Desk<'_>, user: &[u8], password: &[u8]) -> Result<(), CommandError> {
    match &desk.options.password {
        None => Err(CommandError::NoPassword),
        Some(wanted) if user == b"default" && wanted.accepts(password) => Ok(()),
        Some(_) => Err(CommandError::WrongPassword),
    }
}

pub(super) fn auth(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    match args.len() {
        2 => sign_in(desk, b"default", args.get(1))?,
        3 => sign_in(desk, args.get(1), args.get(2))?,
        _ => return Err(CommandError::Syntax),
    }
    desk.session.authenticated = true;
    ok()
}

pub(super) fn hello(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let mut chosen = desk.session.clone();
    if args.len() > 1 {
        chosen.protocol = match integer(args, 1) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            _ => return Err(CommandError::NoProtocol),
        };
    }
    let mut n = 2;
    while n < args.len() {
        if args.is(n, "AUTH") && n + 2 < args.len() {
            sign_in(desk, args.get(n + 1), args.get(n + 2))?;
            chosen.authenticated = true;
            n += 3;
        } else if args.is(n, "SETNAME") && n + 1 < args.len() {
            chosen.name = name(args, n + 1)?;
            n += 2;
        } else {
            return Err(CommandError::Refused(format!(
                "Syntax error in HELLO option '{}'",
                args.text(n)
            )));
        }
    }
    if !chosen.authenticated {
        return Err(CommandError::NoAuthHello);
    }
    *desk.session = chosen;
    show(desk);
    let word = Reply::word;
    Ok(Action::Reply(Reply::Map(vec![
        (word("server"), word("meridian")),
        (word("version"), word(REDIS_VERSION)),
        (word("proto"), Reply::Integer(version(desk.session.protocol).into())),
        (word("id"), Reply::Integer(desk.session.id.cast_signed())),
        (word("mode"), word("standalone")),
        (word("role"), word("master")),
        (word("modules"), Reply::Array(Vec::new())),
    ])))
}

fn name(args: Args<'_>, n: usize) -> Result<String, CommandError> {
    let name = args.get(n);
    if name.len() > MAX_NAME || !name.iter().all(u8::is_ascii_graphic) {
        let why = "Client names cannot contain spaces, newlines or special characters.";
        return Err(CommandError::Refused(why.to_owned()));
    }
    Ok(args.text(n).into_owned())
}

pub(super) fn select(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let word = args.text(1);
    if word.contains('.') {
        let table = word.parse().map_err(|why: meridian_types::TableNameError| {
            CommandError::Refused(why.to_string())
        })?;
        (desk.session.table, desk.session.database) = (table, None);
    } else {
        let number = integer(args, 1)?;
        let number = u8::try_from(number).ok().filter(|n| *n < DATABASES);
        let number = number.ok_or(CommandError::Refused("DB index is out of range".to_owned()))?;
        let table = database(desk.options, number);
        desk.session.table = table.map_err(|why| CommandError::Refused(why.to_string()))?;
        desk.session.database = Some(number);
    }
    show(desk);
    ok()
}

pub(super) fn consistency(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    match args.len() {
        1 => Ok(Action::Reply(Reply::word(desk.session.level.name()))),
        2 => {
            let level = args.text(1).parse::<ConsistencyLevel>();
            desk.session.level = level.map_err(|why| CommandError::Refused(why.to_string()))?;
            ok()
        }
        _ => Err(CommandError::Arity("consistency".to_owned())),
    }
}

pub(super) fn client(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let id = desk.session.id;
    let arity = |ok: bool| {
        let part = || format!("client|{}", args.text(1).to_lowercase());
        if ok { Ok(()) } else { Err(CommandError::Arity(part())) }
    };
    if args.is(1, "ID") {
        Ok(Action::Reply(Reply::Integer(id.cast_signed())))
    } else if args.is(1, "GETNAME") {
        let name = desk.session.name.clone();
        Ok(Action::Reply(if name.is_empty() { Reply::Null } else { Reply::Text(name) }))
    } else if args.is(1, "SETNAME") {
        arity(args.len() == 3)?;
        desk.session.name = name(args, 2)?;
        show(desk);
        ok()
    } else if args.is(1, "INFO") {
        Ok(Action::Reply(Reply::Verbatim(desk.clients.list(Some(id)))))
    } else if args.is(1, "LIST") {
        Ok(Action::Reply(Reply::Verbatim(desk.clients.list(None))))
    } else if args.is(1, "SETINFO") {
        arity(args.len() == 4)?;
        set_info(desk, args)
    } else if args.is(1, "NO-EVICT") || args.is(1, "NO-TOUCH") {
        arity(args.len() == 3)?;
        if args.is(2, "ON") || args.is(2, "OFF") { ok() } else { Err(CommandError::Syntax) }
    } else if args.is(1, "REPLY") {
        arity(args.len() == 3)?;
        replies(desk, args)
    } else {
        Err(unknown_part("CLIENT", args))
    }
}

fn set_info(desk: &Desk<'_>, args: Args<'_>) -> Understood {
    let value = name(args, 3)?;
    if args.is(2, "LIB-NAME") {
        desk.clients.change(desk.session.id, |client| client.library = value);
    } else if args.is(2, "LIB-VER") {
        desk.clients.change(desk.session.id, |client| client.library_version = value);
    } else {
        let why = format!("Unrecognized option '{}'", args.text(2));
        return Err(CommandError::Refused(why));
    }
    ok()
}

fn replies(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    desk.session.answers = if args.is(2, "ON") {
        Answers::On
    } else if args.is(2, "OFF") {
        Answers::Off
    } else if args.is(2, "SKIP") {
        // Two are left out: the answer to this command, and the next one.
        Answers::SkipNext
    } else {
        return Err(CommandError::Syntax);
    };
    match desk.session.answers {
        Answers::On => ok(),
        _ => Ok(Action::Reply(Reply::Silence)),
    }
}
