//! What `meridian dev` may be told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::control::Command;
use super::folder::{DEFAULT_FOLDER, FOLDER_VARIABLE};
use super::ports::PortChoice;

/// See `meridian dev --help`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct DevArgs {
    #[command(subcommand)]
    pub(super) command: Option<DevCommand>,
    /// The cluster: the name of a shape that comes with the program, or the path of a shape file.
    /// Default: the one that the folder holds, otherwise three-dc.
    #[arg(long)]
    pub(super) shape: Option<String>,
    /// Gives the links between datacenters the shape's latencies.
    #[arg(long)]
    pub(super) wan: bool,
    /// The folder that keeps the nodes' data, configuration and logs.
    #[arg(long, global = true, value_name = "DIR", env = FOLDER_VARIABLE,
          default_value = DEFAULT_FOLDER)]
    pub(super) data: PathBuf,
    /// Deletes what the folder keeps, first.
    #[arg(long)]
    pub(super) fresh: bool,
    /// `stable`: counted from --base-port; `auto`: free ones. Default: as at the last start in this
    /// folder, otherwise stable.
    #[arg(long, value_enum)]
    pub(super) ports: Option<PortChoice>,
    /// The n-th node listens at base + n for nodes, base + 2000 + n for RESP, base + 3000 + n for
    /// REST, base + 4000 + n for gRPC. Default: as at the last start, otherwise 5000.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    pub(super) base_port: Option<u16>,
    /// Sets a configuration key of every node: `--set storage.sync=always`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

/// Commands to a running cluster.
#[derive(Debug, Subcommand)]
pub(super) enum DevCommand {
    /// Shows nodes, doors, memory and links.
    Status,
    /// Cuts the link between two datacenters.
    Cut {
        /// One datacenter.
        from: String,
        /// The other.
        to: String,
        /// Only what travels from the first to the second.
        #[arg(long)]
        one_way: bool,
        /// Answers once the nodes on both sides have noticed.
        #[arg(long)]
        wait: bool,
    },
    /// Ends every cut, or the one between two datacenters.
    Heal {
        /// One datacenter.
        #[arg(requires = "to")]
        from: Option<String>,
        /// The other.
        to: Option<String>,
        /// Answers once the nodes reach each other again.
        #[arg(long)]
        wait: bool,
    },
    /// Kills a node's process at once (SIGKILL): it loses what it did not write.
    Kill {
        /// The node.
        node: String,
    },
    /// Starts a node that does not run.
    Start {
        /// The node.
        node: String,
    },
    /// Freezes a node's process (SIGSTOP): it neither answers nor closes anything.
    Pause {
        /// The node.
        node: String,
    },
    /// Lets a paused node go on.
    Resume {
        /// The node.
        node: String,
    },
    /// Stops the cluster cleanly.
    Stop,
}

impl From<DevCommand> for Command {
    fn from(command: DevCommand) -> Self {
        match command {
            DevCommand::Status => Self::Status,
            DevCommand::Cut { from, to, one_way, wait } => Self::Cut { from, to, one_way, wait },
            DevCommand::Heal { from, to, wait } => Self::Heal { between: from.zip(to), wait },
            DevCommand::Kill { node } => Self::Kill { node },
            DevCommand::Start { node } => Self::Start { node },
            DevCommand::Pause { node } => Self::Pause { node },
            DevCommand::Resume { node } => Self::Resume { node },
            DevCommand::Stop => Self::Stop,
        }
    }
}
