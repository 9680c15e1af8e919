//! A connection that speaks HTTP/1.1 to the REST door.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::args::BenchArgs;
use super::door::{Result as OpResult, unreachable};
use super::grpc::table_of;
use super::keys::{Op, name};
use crate::cli::output::Failure;

pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    at: SocketAddr,
    path: String,
    query: String,
    bearer: Option<String>,
    value: Bytes,
}

impl Connection {
    pub(super) async fn open(
        at: SocketAddr,
        args: &BenchArgs,
        value: Bytes,
    ) -> Result<Self, Failure> {
        let stream = TcpStream::connect(at).await.map_err(|error| unreachable(at, error))?;
        stream.set_nodelay(true)?;
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| unreachable(at, error))?;
        // Its end shows in the next request.
        tokio::spawn(connection);
        let table = table_of(args)?;
        let level = args.level().name();
        Ok(Self {
            sender,
            at,
            path: format!("/v1/kv/{}/{}", table.keyspace(), table.table()),
            query: format!("?consistency={level}&timeout={}ms", args.connect.timeout.as_millis()),
            bearer: args.connect.password.as_ref().map(|password| format!("Bearer {password}")),
            value,
        })
    }

    pub(super) async fn run(
        &mut self,
        ops: &[Op],
        answers: &mut Vec<OpResult>,
    ) -> Result<(), Failure> {
        for op in ops {
            let (method, key, body) = match op {
                Op::Get(key) => (Method::GET, key, Bytes::new()),
                Op::Put(key) => (Method::PUT, key, self.value.clone()),
            };
            let page = format!("{}/{}{}", self.path, name(*key), self.query);
            let (status, _) = self.ask(method, &page, body).await?;
            // A key that was never written is an answer like any other.
            let fine = (200..300).contains(&status) || status == 404;
            answers.push(if fine { Ok(()) } else { Err(format!("HTTP {status}")) });
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        method: Method,
        page: &str,
        body: Bytes,
    ) -> Result<(u16, Bytes), Failure> {
        let mut request = Request::builder().method(method).uri(page);
        request = request.header(header::HOST, self.at.to_string());
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let request = request.body(Full::new(body)).context("the request cannot be built")?;
        let lost = |error: hyper::Error| unreachable(self.at, error);
        self.sender.ready().await.map_err(lost)?;
        let response: Response<Incoming> = self.sender.send_request(request).await.map_err(lost)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(lost)?;
        Ok((status, body.to_bytes()))
    }
}

/// Creates keyspace and table where they are not there.
pub(super) async fn prepare(at: SocketAddr, args: &BenchArgs) -> Result<(), Failure> {
    let table = table_of(args)?;
    let mut connection = Connection::open(at, args, Bytes::new()).await?;
    let keyspace = json!({ "name": table.keyspace(), "if_not_exists": true });
    let options = json!({ "policy": "lww" });
    let new = json!({ "name": table.as_str(), "options": options, "if_not_exists": true });
    for (page, body) in [("/v1/keyspaces", keyspace), ("/v1/tables", new)] {
        let body = Bytes::from(body.to_string());
        let (status, said) = connection.ask(Method::POST, page, body).await?;
        if !(200..300).contains(&status) {
            let said: Value = serde_json::from_slice(&said).unwrap_or_default();
            return Err(Failure::No(format!("{at} refused POST {page}: HTTP {status} {said}")));
        }
    }
    Ok(())
}
