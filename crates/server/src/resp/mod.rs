//! RESP2 and RESP3: Redis clients and tools, unchanged.
//!
//! `frame` cuts the stream into commands without copying; a file of `command` turns one into an
//! action and stops there; `execute` asks the service; `connection` keeps the answers in order.

mod action;
mod args;
mod clients;
mod command;
mod connection;
mod error;
mod execute;
mod frame;
mod glob;
mod pipeline;
mod reply;
mod session;

use std::sync::Arc;

use meridian_service::Service;
use tokio::net::TcpListener;

use crate::front::Front;
use crate::listener::Hall;

/// As Redis says it.
const DOOR_FULL: &[u8] = b"-ERR max number of clients reached\r\n";

pub(crate) fn open<S: Service>(hall: &Hall, listener: TcpListener, front: Front<S>) {
    let executor = Arc::new(execute::Executor {
        front,
        databases: execute::Databases::default(),
        clients: clients::Clients::default(),
    });
    let inside = hall.clone();
    let welcome =
        move |stream, peer| connection::serve(stream, peer, executor.clone(), inside.clone());
    hall.open(listener, welcome, DOOR_FULL);
}
