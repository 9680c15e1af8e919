//! Commands about the node.

use meridian_service::Request;

use super::{COMMANDS, Command, Desk, Understood, table, unknown_part};
use crate::clock;
use crate::resp::action::{Action, InfoParts, Shape, Work};
use crate::resp::args::Args;
use crate::resp::error::CommandError;
use crate::resp::glob;
use crate::resp::reply::Reply;
use crate::resp::session::DATABASES;

pub(super) fn dbsize(desk: &mut Desk<'_>, _: Args<'_>) -> Understood {
    let table = desk.session.table.clone();
    Ok(Action::Run(Work::Ask(Request::DescribeTable(table), Shape::Rows)))
}

pub(super) fn flush(_: &mut Desk<'_>, _: Args<'_>) -> Understood {
    Err(CommandError::Refused(
        "a whole table is not deleted through this door: it would take writes along that other \
         datacenters have not shown yet; delete keys, or use another table"
            .to_owned(),
    ))
}

pub(super) fn wait(_: &mut Desk<'_>, _: Args<'_>) -> Understood {
    Err(CommandError::Refused(
        "there is no replication to wait for behind a write: CONSISTENCY says before it how many \
         replicas must have it"
            .to_owned(),
    ))
}

pub(super) fn time(_: &mut Desk<'_>, _: Args<'_>) -> Understood {
    let millis = clock::now().0;
    let parts = [millis / 1_000, millis % 1_000 * 1_000];
    Ok(Action::Reply(Reply::Array(parts.map(|n| Reply::Text(n.to_string())).into())))
}

pub(super) fn info(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let all = InfoParts { server: true, clients: true, replication: true, keyspace: true };
    let mut parts = if args.len() == 1 { all } else { InfoParts::default() };
    for n in 1..args.len() {
        match args.text(n).to_ascii_lowercase().as_str() {
            "all" | "everything" | "default" => parts = all,
            "server" => parts.server = true,
            "clients" => parts.clients = true,
            "replication" => parts.replication = true,
            "keyspace" => parts.keyspace = true,
            // Redis leaves out what it does not know.
            _ => {}
        }
    }
    Ok(Action::Run(Work::Info(desk.session.table.clone(), parts)))
}

pub(super) fn config(desk: &mut Desk<'_>, args: Args<'_>) -> Understood {
    if args.is(1, "SET") || args.is(1, "REWRITE") || args.is(1, "RESETSTAT") {
        return Err(CommandError::Refused(
            "settings are not changed through this door; they are in the node's file".to_owned(),
        ));
    }
    if !args.is(1, "GET") {
        return Err(unknown_part("CONFIG", args));
    }
    if args.len() < 3 {
        return Err(CommandError::Arity("config|get".to_owned()));
    }
    let limits = &desk.options.limits;
    // What tools ask for, in Redis's names. There is no append-only file of Redis's kind and no
    // dump: durability is the write-ahead log's.
    let settings = [
        ("appendonly", "yes".to_owned()),
        ("databases", DATABASES.to_string()),
        ("maxclients", limits.connections.to_string()),
        ("maxmemory", "0".to_owned()),
        ("proto-max-bulk-len", limits.data.value_bytes.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ];
    let asked = |name: &str| {
        (2..args.len()).any(|n| glob::matches(&args.get(n).to_ascii_lowercase(), name.as_bytes()))
    };
    let shown = settings.into_iter().filter(|(name, _)| asked(name));
    let pair = |(name, value)| (Reply::word(name), Reply::Text(value));
    Ok(Action::Reply(Reply::Map(shown.map(pair).collect())))
}

pub(super) fn command(_: &mut Desk<'_>, args: Args<'_>) -> Understood {
    let named = || (2..args.len()).map(|n| table::find(args.get(n)));
    let reply = if args.len() == 1 {
        Reply::Array(COMMANDS.iter().map(description).collect())
    } else if args.is(1, "COUNT") {
        Reply::count(COMMANDS.len())
    } else if args.is(1, "LIST") {
        Reply::Array(COMMANDS.iter().map(|command| Reply::word(command.name)).collect())
    } else if args.is(1, "INFO") && args.len() == 2 {
        Reply::Array(COMMANDS.iter().map(description).collect())
    } else if args.is(1, "INFO") {
        Reply::Array(named().map(|command| command.map_or(Reply::Null, description)).collect())
    } else if args.is(1, "DOCS") && args.len() == 2 {
        Reply::Map(COMMANDS.iter().map(documentation).collect())
    } else if args.is(1, "DOCS") {
        Reply::Map(named().flatten().map(documentation).collect())
    } else {
        return Err(unknown_part("COMMAND", args));
    };
    Ok(Action::Reply(reply))
}

fn description(command: &Command) -> Reply {
    let number = |n: i8| Reply::Integer(n.into());
    let (first, last, step) = command.keys;
    let flags = command.flags.iter().map(|flag| Reply::Simple(flag)).collect();
    Reply::Array(vec![
        Reply::word(command.name),
        number(command.arity),
        Reply::Set(flags),
        number(first),
        number(last),
        number(step),
        Reply::Set(Vec::new()),
        Reply::Set(Vec::new()),
        Reply::Set(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

fn documentation(command: &Command) -> (Reply, Reply) {
    let word = Reply::word;
    let fields = vec![
        (word("summary"), word(command.summary)),
        (word("since"), word("1.0.0")),
        (word("group"), word(command.group)),
    ];
    (word(command.name), Reply::Map(fields))
}
