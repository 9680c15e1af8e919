//! How each command is called. `COMMAND` shows this table, so it is also the documentation.

use super::{Desk, Understood, connection, expire, keys, scan, server, strings};
use crate::resp::args::Args;

/// One command.
pub(in crate::resp) struct Command {
    /// Its name.
    pub(in crate::resp) name: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub(in crate::resp) arity: i8,
    /// Redis's words for what it does.
    pub(in crate::resp) flags: &'static [&'static str],
    /// First key, last key (negative: from the end), and the step between two.
    pub(in crate::resp) keys: (i8, i8, i8),
    /// Redis's group.
    pub(in crate::resp) group: &'static str,
    /// One line.
    pub(in crate::resp) summary: &'static str,
    /// Whether it may come before the password.
    pub(super) before_auth: bool,
    pub(super) understand: fn(&mut Desk<'_>, Args<'_>) -> Understood,
}

impl Command {
    pub(super) fn accepts(&self, args: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { args >= wanted } else { args == wanted }
    }
}

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const NO_AUTH: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth"];
const CONTROL: &[&str] = &["noscript", "loading", "stale", "fast"];

/// A row of the table.
const fn row(
    name: &'static str,
    arity: i8,
    flags: &'static [&'static str],
    keys: (i8, i8, i8),
    group: &'static str,
    summary: &'static str,
    understand: fn(&mut Desk<'_>, Args<'_>) -> Understood,
) -> Command {
    Command { name, arity, flags, keys, group, summary, before_auth: false, understand }
}

const fn before_auth(command: Command) -> Command {
    Command { before_auth: true, ..command }
}

const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const ALL: (i8, i8, i8) = (1, -1, 1);
const PAIRS: (i8, i8, i8) = (1, -1, 2);

/// All commands, by name.
#[rustfmt::skip]
pub(in crate::resp) static COMMANDS: [Command; 41] = [
    before_auth(row("auth", -2, NO_AUTH, NONE, "connection", "Shows the password.", connection::auth)),
    row("client", -2, CONTROL, NONE, "connection", "Names and lists connections.", connection::client),
    row("command", -1, CONTROL, NONE, "server", "Describes the commands.", server::command),
    row("config", -2, CONTROL, NONE, "server", "Shows settings.", server::config),
    row("consistency", -1, CONTROL, NONE, "connection", "Sets the level of this connection.", connection::consistency),
    row("dbsize", 1, READ, NONE, "server", "Estimates the number of keys.", server::dbsize),
    row("del", -2, WRITE, ALL, "generic", "Deletes keys.", keys::del),
    row("echo", 2, CONTROL, NONE, "connection", "Returns its argument.", connection::echo),
    row("exists", -2, READ, ALL, "generic", "Counts the keys that have a value.", keys::exists),
    row("expire", -3, WRITE, ONE, "generic", "Sets the seconds until a key expires.", expire::expire),
    row("expireat", -3, WRITE, ONE, "generic", "Sets the second at which a key expires.", expire::expireat),
    row("expiretime", 2, READ, ONE, "generic", "Tells the second at which a key expires.", expire::expiretime),
    row("flushall", -1, WRITE, NONE, "server", "Refused.", server::flush),
    row("flushdb", -1, WRITE, NONE, "server", "Refused.", server::flush),
    row("get", 2, READ, ONE, "string", "Returns a value.", strings::get),
    before_auth(row("hello", -1, NO_AUTH, NONE, "connection", "Chooses the dialect.", connection::hello)),
    row("info", -1, CONTROL, NONE, "server", "Describes the node.", server::info),
    row("mget", -2, READ, ALL, "string", "Returns many values.", strings::mget),
    row("mset", -3, WRITE, PAIRS, "string", "Sets many values, each on its own.", strings::mset),
    row("persist", 2, WRITE, ONE, "generic", "Removes a key's expiry.", expire::persist),
    row("pexpire", -3, WRITE, ONE, "generic", "Sets the milliseconds until a key expires.", expire::pexpire),
    row("pexpireat", -3, WRITE, ONE, "generic", "Sets the millisecond at which a key expires.", expire::pexpireat),
    row("pexpiretime", 2, READ, ONE, "generic", "Tells the millisecond at which a key expires.", expire::pexpiretime),
    row("ping", -1, CONTROL, NONE, "connection", "Answers.", connection::ping),
    row("psetex", 4, WRITE, ONE, "string", "Sets a value and its expiry in milliseconds.", strings::psetex),
    row("pttl", 2, READ, ONE, "generic", "Tells the milliseconds until a key expires.", expire::pttl),
    before_auth(row("quit", -1, NO_AUTH, NONE, "connection", "Closes the connection.", connection::quit)),
    before_auth(row("reset", 1, NO_AUTH, NONE, "connection", "Forgets what the connection chose.", connection::reset)),
    row("scan", -2, READ, NONE, "generic", "Returns a page of keys.", scan::scan),
    row("select", 2, CONTROL, NONE, "connection", "Chooses the database.", connection::select),
    row("set", -3, WRITE, ONE, "string", "Sets a value.", strings::set),
    row("setex", 4, WRITE, ONE, "string", "Sets a value and its expiry in seconds.", strings::setex),
    row("setnx", 3, WRITE, ONE, "string", "Sets a value where there is none.", strings::setnx),
    row("strlen", 2, READ, ONE, "string", "Tells the length of a value.", strings::strlen),
    row("time", 1, CONTROL, NONE, "server", "Tells the node's time.", server::time),
    row("touch", -2, READ, ALL, "generic", "Counts the keys that have a value.", keys::exists),
    row("ttl", 2, READ, ONE, "generic", "Tells the seconds until a key expires.", expire::ttl),
    row("type", 2, READ, ONE, "generic", "Tells what kind of value a key has.", keys::kind),
    row("unlink", -2, WRITE, ALL, "generic", "Deletes keys.", keys::del),
    row("wait", 3, CONTROL, NONE, "generic", "Refused: set CONSISTENCY instead.", server::wait),
    row("waitaof", 4, CONTROL, NONE, "generic", "Refused: set CONSISTENCY instead.", server::wait),
];

/// The command with this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    // The longest name has 11 bytes; a longer word is none.
    let mut lower = [0; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    Some(&COMMANDS[at])
}
