//! `meridian config`: what is in force and why, and the reference of all keys.

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Failure, Output, table};
use super::serve::SourceArgs;

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Prints every key with its value and where that came from; says what is wrong.
    Check(SourceArgs),
    /// Prints the reference of all keys (docs/configuration.md).
    Reference,
}

pub(super) fn run(args: &ConfigArgs, output: Output) -> Result<(), Failure> {
    match &args.command {
        ConfigCommand::Check(sources) => check(sources, output),
        ConfigCommand::Reference => output.line(meridian_options::reference().trim_end()),
    }
}

fn check(sources: &SourceArgs, output: Output) -> Result<(), Failure> {
    let loaded = sources.load()?;
    let rows = loaded.effective.iter();
    if output.json {
        let all: Vec<_> = rows
            .map(|row| {
                json!({ "key": row.key, "value": row.value, "origin": row.origin.to_string() })
            })
            .collect();
        return output.line(json!({ "ok": true, "effective": all }));
    }
    let mut listing = table(["key", "value", "from"]);
    for row in rows {
        let value = match row.value.as_str() {
            text if text.contains("\\n") => "(a shape's text)",
            text => text,
        };
        listing.add_row([row.key.as_str(), value, &row.origin.to_string()]);
    }
    output.line(listing)?;
    output.line(format_args!(
        "ok: node {} of cluster {} ({})",
        loaded.options.node.name,
        loaded.options.cluster.name,
        loaded.options.cluster.shape.name()
    ))
}
