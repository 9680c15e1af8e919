//! The commands: one table that says how each is called, and functions that understand it.
//!
//! A function here parses and stops: it asks nobody and writes to no socket.

mod connection;
mod expire;
mod keys;
mod scan;
mod server;
mod strings;
mod table;

pub(super) use connection::REDIS_VERSION;
use table::{COMMANDS, Command};

use super::action::Action;
use super::args::Args;
use super::clients::Clients;
use super::error::CommandError;
use super::frame::number;
use super::session::Session;
use crate::DoorsOptions;

/// What a command may see and change.
pub(super) struct Desk<'a> {
    pub(super) session: &'a mut Session,
    pub(super) options: &'a DoorsOptions,
    pub(super) clients: &'a Clients,
}

type Understood = Result<Action, CommandError>;

/// Longest name or argument that an error repeats.
const MAX_QUOTED: usize = 128;

/// Understands one command.
pub(super) fn understand(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let Some(command) = table::find(args.get(0)) else {
        return Err(unknown(args));
    };
    if !desk.session.authenticated && !command.before_auth {
        return Err(CommandError::NoAuth);
    }
    if !command.accepts(args.len()) {
        return Err(CommandError::Arity(command.name.to_owned()));
    }
    (command.understand)(desk, args)
}

fn cut(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_QUOTED)]).into_owned()
}

fn unknown(args: Args<'_>) -> CommandError {
    let mut quoted = String::new();
    for n in 1..args.len() {
        if quoted.len() >= MAX_QUOTED {
            break;
        }
        quoted.push_str(&format!("'{}' ", cut(args.get(n))));
    }
    CommandError::Unknown { name: cut(args.get(0)), args: quoted }
}

fn integer(args: Args<'_>, n: usize) -> Result<i64, CommandError> {
    number(args.get(n)).ok_or(CommandError::NotANumber)
}

fn unknown_part(command: &'static str, args: Args<'_>) -> CommandError {
    CommandError::UnknownPart { command, subcommand: cut(args.get(1)) }
}

#[cfg(test)]
mod tests;
