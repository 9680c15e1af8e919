//! One connection to any door, and what all of them are told.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use tokio::net::lookup_host;

use super::args::{BenchArgs, Door};
use super::keys::Op;
use super::{grpc, resp, rest};
use crate::cli::output::Failure;
use crate::dev::running_nodes;

/// What became of one request: nothing to say, or the name of its error.
pub(super) type Result = std::result::Result<(), String>;

/// Where to connect, and with what.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    door: Door,
    addresses: Vec<SocketAddr>,
    value: Bytes,
}

/// One connection.
pub(super) enum Connection {
    Resp(resp::Connection),
    Rest(rest::Connection),
    Grpc(grpc::Connection),
}

impl Connector {
    pub(super) async fn new(args: &BenchArgs) -> std::result::Result<Self, Failure> {
        let addresses = addresses(args).await?;
        let value = Bytes::from(vec![b'x'; args.value_bytes]);
        Ok(Self { door: args.door, addresses, value })
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Makes sure that the table is there.
    pub(super) async fn prepare(&self, args: &BenchArgs) -> std::result::Result<(), Failure> {
        let Some(&first) = self.addresses.first() else {
            return Err(Failure::No("there is no address to connect to".to_owned()));
        };
        match self.door {
            Door::Resp => Ok(()),
            Door::Rest => rest::prepare(first, args).await,
            Door::Grpc => grpc::prepare(first, args).await,
        }
    }

    /// The n-th client's connection: clients take the addresses in turn.
    pub(super) async fn connect(
        &self,
        args: &BenchArgs,
        number: u32,
    ) -> std::result::Result<Connection, Failure> {
        let count = self.addresses.len().max(1);
        let at = self.addresses.get(number as usize % count).context("there is no address")?;
        let value = self.value.clone();
        Ok(match self.door {
            Door::Resp => Connection::Resp(resp::Connection::open(*at, args, value).await?),
            Door::Rest => Connection::Rest(rest::Connection::open(*at, args, value).await?),
            Door::Grpc => Connection::Grpc(grpc::Connection::open(*at, args, value).await?),
        })
    }
}

impl Connection {
    /// Sends all requests and waits for all answers, in order.
    ///
    /// An error means that the connection is of no use any more.
    pub(super) async fn run(
        &mut self,
        ops: &[Op],
        answers: &mut Vec<Result>,
    ) -> std::result::Result<(), Failure> {
        answers.clear();
        match self {
            Self::Resp(connection) => connection.run(ops, answers).await,
            Self::Rest(connection) => connection.run(ops, answers).await,
            Self::Grpc(connection) => {
                connection.run(ops, answers).await;
                Ok(())
            }
        }
    }
}

/// `--address` is the door's own here; without one, the development cluster's doors.
async fn addresses(args: &BenchArgs) -> std::result::Result<Vec<SocketAddr>, Failure> {
    let connect = &args.connect;
    if !connect.address.is_empty() {
        let mut found = Vec::new();
        for text in &connect.address {
            found.push(resolve(text).await?);
        }
        return Ok(found);
    }
    let grpc = connect.addresses()?;
    let nodes = running_nodes(&connect.data);
    let mine = nodes.iter().filter(|node| grpc.contains(&node.grpc.to_string()));
    let doors: Vec<SocketAddr> = mine
        .map(|node| match args.door {
            Door::Resp => node.resp,
            Door::Rest => node.rest,
            Door::Grpc => node.grpc,
        })
        .collect();
    if !doors.is_empty() {
        return Ok(doors);
    }
    let port = match args.door {
        Door::Resp => 7_001,
        Door::Rest => 8_001,
        Door::Grpc => 9_001,
    };
    Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
}

async fn resolve(text: &str) -> std::result::Result<SocketAddr, Failure> {
    let found = lookup_host(text).await.with_context(|| format!("{text} is no address"))?;
    Ok(found.into_iter().next().with_context(|| format!("{text} has no address"))?)
}

/// The words for a server that cannot be reached.
pub(super) fn unreachable(at: SocketAddr, error: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(format!(
        "no answer from {at}: {error}; is a node running there? `meridian dev` starts a cluster, \
         --address names another door"
    ))
}
