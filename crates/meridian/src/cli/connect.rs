//! Which nodes a command talks to, and the one way to ask them something.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use meridian_client::{Client, ClientError, ClientOptions};
use meridian_service::{Effect, Outcome, Request, RequestError};
use meridian_types::ConsistencyLevel;

use super::output::Failure;
use crate::dev::{DEFAULT_FOLDER, FOLDER_VARIABLE, running_nodes};

/// The gRPC door of a node that nobody configured.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9001";

/// Which nodes to talk to.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArgs {
    /// gRPC door of a node, host:port; may be repeated. Default: the nodes of the development
    /// cluster that runs here, otherwise 127.0.0.1:9001.
    #[arg(long, value_name = "HOST:PORT", env = "MERIDIAN_ADDRESS", value_delimiter = ',')]
    pub(crate) address: Vec<String>,
    /// Talks to this datacenter of the development cluster. Default: its first one.
    #[arg(long, conflicts_with = "address")]
    pub(crate) dc: Option<String>,
    /// The development cluster's folder.
    #[arg(long, value_name = "DIR", env = FOLDER_VARIABLE, default_value = DEFAULT_FOLDER)]
    pub(crate) data: PathBuf,
    /// How long a request may take: 500ms, 2s, 1m.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// The doors' password.
    #[arg(long, env = "MERIDIAN_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,
}

/// How many replicas must answer.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LevelArgs {
    /// Consistency level: any, one, local-one, two, three, quorum, local-quorum, each-quorum, all.
    #[arg(long, default_value = "local-quorum", value_name = "LEVEL")]
    pub(crate) consistency: ConsistencyLevel,
}

/// A cluster that answers.
#[derive(Clone)]
pub(crate) struct Session {
    client: Client,
    addresses: String,
}

impl ConnectArgs {
    /// The gRPC doors to try, in order.
    pub(crate) fn addresses(&self) -> Result<Vec<String>, Failure> {
        if !self.address.is_empty() {
            return Ok(self.address.clone());
        }
        let nodes = running_nodes(&self.data);
        let Some(first) = nodes.first() else {
            return match &self.dc {
                Some(dc) => Err(Failure::No(format!(
                    "no development cluster runs in {}, so there is no datacenter `{dc}` to pick; \
                     name a node with --address",
                    self.data.display()
                ))),
                None => Ok(vec![DEFAULT_ADDRESS.to_owned()]),
            };
        };
        let dc = self.dc.as_deref().unwrap_or(&first.datacenter);
        let there = nodes.iter().filter(|node| node.datacenter == dc);
        let addresses: Vec<String> = there.map(|node| node.grpc.to_string()).collect();
        if addresses.is_empty() {
            let mut names: Vec<_> = nodes.iter().map(|node| node.datacenter.as_str()).collect();
            names.dedup();
            let names = names.join(", ");
            return Err(Failure::No(format!("there is no datacenter `{dc}`; there are {names}")));
        }
        Ok(addresses)
    }

    /// Connects.
    pub(crate) async fn open(&self) -> Result<Session, Failure> {
        let endpoints = self.addresses()?;
        let addresses = endpoints.join(", ");
        let options = ClientOptions {
            timeout: self.timeout,
            password: self.password.clone().map(Into::into),
            ..ClientOptions::new(endpoints)
        };
        let client = Client::connect(options).await.map_err(|e| failure(e, &addresses))?;
        Ok(Session { client, addresses })
    }
}

impl Session {
    /// Asks, and says in words where nobody answers.
    pub(crate) async fn call(&self, request: Request) -> Result<Outcome, Failure> {
        self.client.call(request).await.map_err(|error| failure(error, &self.addresses))
    }

    /// Asks; an answer of another kind than asked for is a broken node.
    pub(crate) async fn ask<T>(
        &self,
        request: Request,
        pick: impl FnOnce(Outcome) -> Option<T>,
    ) -> Result<T, Failure> {
        let outcome = self.call(request).await?;
        pick(outcome).ok_or_else(|| {
            Failure::Other(anyhow::anyhow!("the node answered something that was not asked"))
        })
    }
}

fn failure(error: ClientError, addresses: &str) -> Failure {
    match error {
        ClientError::Request(error) => Failure::Request(error),
        ClientError::NotReached { .. } => Failure::Unreachable(format!(
            "{error}; is a node running at {addresses}? `meridian dev` starts a cluster, --address \
             names another node"
        )),
        error if error.effect() == Effect::Unknown => Failure::Unknown(error.to_string()),
        error => Failure::Other(error.into()),
    }
}

/// Whether a failure is this refusal of a node.
pub(crate) fn is_unknown_table(failure: &Failure) -> bool {
    matches!(failure, Failure::Request(RequestError::UnknownTable(_)))
}

/// `500ms`, `2s`, `1m`, `3h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write it as 500ms, 2s, 1m, 3h or 1d".to_owned()),
    };
    let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    millis
        .filter(|&millis| millis > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is no duration; write it as 500ms, 2s, 1m, 3h or 1d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for bad in ["", "5", "0s", "s", "-1s", "1.5s", "99999999999999999999s", "2 s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
