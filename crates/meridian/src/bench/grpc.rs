//! A connection through the Rust client to the gRPC door.

use std::net::SocketAddr;

use bytes::Bytes;
use meridian_service::{Expiry, Get, Outcome, Put, PutItem, Request};
use meridian_types::{ConflictPolicy, ConsistencyLevel, TableName, TableOptions};

use super::args::BenchArgs;
use super::door::Result as OpResult;
use super::keys::{Op, name};
use crate::cli::connect::{ConnectArgs, Session};
use crate::cli::output::{Failure, Output};
use crate::cli::schema;

pub(super) struct Connection {
    session: Session,
    table: TableName,
    level: ConsistencyLevel,
    value: Bytes,
}

/// The table of doors that name one in every request.
pub(super) fn table_of(args: &BenchArgs) -> Result<TableName, Failure> {
    match &args.table {
        Some(table) => Ok(table.clone()),
        None => Ok(TableName::new("bench", "kv").map_err(anyhow::Error::from)?),
    }
}

/// Creates keyspace and table where they are not there.
pub(super) async fn prepare(at: SocketAddr, args: &BenchArgs) -> Result<(), Failure> {
    let session = session(at, args).await?;
    let lww = TableOptions { policy: ConflictPolicy::Lww, ..TableOptions::default() };
    let quiet = Output { json: true };
    schema::create(&session, &table_of(args)?, lww, true, quiet).await?;
    Ok(())
}

async fn session(at: SocketAddr, args: &BenchArgs) -> Result<Session, Failure> {
    let address = vec![at.to_string()];
    ConnectArgs { address, dc: None, ..args.connect.clone() }.open().await
}

impl Connection {
    pub(super) async fn open(
        at: SocketAddr,
        args: &BenchArgs,
        value: Bytes,
    ) -> Result<Self, Failure> {
        let session = session(at, args).await?;
        Ok(Self { session, table: table_of(args)?, level: args.level(), value })
    }

    pub(super) async fn run(&self, ops: &[Op], answers: &mut Vec<OpResult>) {
        for op in ops {
            let answer = self.session.call(self.request(*op)).await;
            answers.push(match answer {
                Ok(Outcome::Got(_) | Outcome::Put(_)) => Ok(()),
                Ok(_) => Err("another answer than asked for".to_owned()),
                Err(Failure::Request(error)) => Err(error.code().name.to_owned()),
                Err(_) => Err("unreachable".to_owned()),
            });
        }
    }

    fn request(&self, op: Op) -> Request {
        let (table, consistency) = (self.table.clone(), self.level);
        match op {
            Op::Get(key) => {
                let key = Bytes::from(name(key));
                Request::Get(Get { table, key, consistency, with_context: false })
            }
            Op::Put(key) => {
                let item = PutItem {
                    key: Bytes::from(name(key)),
                    value: Some(self.value.clone()),
                    expiry: Expiry::TableDefault,
                    context: None,
                    write_id: None,
                };
                Request::Put(Put { table, item, condition: None, consistency, with_context: false })
            }
        }
    }
}
