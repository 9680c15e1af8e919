//! The supervisor's control door: a JSON line each way on a loopback socket, with a token that only
//! the folder's owner can read.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use meridian_chaos::WayStatus;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{folder, report};
use crate::cli::output::{Failure, Output};

/// Most bytes of a command or an answer: a status of a hundred nodes fits.
const MAX_LINE: u64 = 1 << 20;

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Commands that wait for the supervisor.
pub(super) const WAITING_COMMANDS: usize = 16;

/// What the supervisor may be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Command {
    Status,
    Cut { from: String, to: String, one_way: bool, wait: bool },
    Heal { between: Option<(String, String)>, wait: bool },
    Kill { node: String },
    Start { node: String },
    Pause { node: String },
    Resume { node: String },
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
struct Call {
    token: String,
    command: Command,
}

/// What the supervisor answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// It is done; what is now.
    Done(String),
    /// The cluster as it is.
    Status(Status),
    /// It is not done, and why.
    Refused(String),
}

/// How to reach a running cluster: the content of `control.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Contact {
    pub(super) address: SocketAddr,
    pub(super) token: String,
    pub(super) pid: u32,
    pub(super) shape: String,
    pub(super) nodes: Vec<NodeStatus>,
}

/// The cluster as the supervisor sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) folder: PathBuf,
    pub(super) shape: String,
    pub(super) wan: bool,
    /// Every node answered since the start.
    pub(super) ready: bool,
    pub(super) nodes: Vec<NodeStatus>,
    pub(super) links: Vec<WayStatus>,
}

/// One node as the supervisor sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) datacenter: String,
    pub(crate) rack: String,
    /// `running`, `paused`, or how it ended.
    pub(crate) state: String,
    pub(crate) pid: Option<u32>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) resp: SocketAddr,
    pub(crate) rest: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) links: SocketAddr,
}

/// A command and where its answer goes.
pub(super) type Asked = (Command, oneshot::Sender<Reply>);

/// Opens the door; where it is, and what closes it. `asked` ends once the door is closed and every
/// caller has its answer.
pub(super) async fn open(
    token: String,
    asked: mpsc::Sender<Asked>,
) -> Result<(SocketAddr, AbortHandle)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let door = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (token, asked) = (token.clone(), asked.clone());
            tokio::spawn(async move {
                // A caller that leaves gets no answer; what it asked for is done all the same.
                let _ = serve(stream, &token, &asked).await;
            });
        }
    });
    Ok((address, door.abort_handle()))
}

async fn serve(mut stream: TcpStream, token: &str, asked: &mpsc::Sender<Asked>) -> Result<()> {
    let line = timeout(PATIENCE, read_line(&mut stream)).await??;
    let reply = match serde_json::from_str::<Call>(&line) {
        Ok(call) if call.token == token => {
            let (sender, receiver) = oneshot::channel();
            asked.send((call.command, sender)).await.ok().context("stopping")?;
            receiver.await.unwrap_or_else(|_| Reply::Refused("the cluster is stopping".into()))
        }
        Ok(_) => Reply::Refused("the token is not that of this cluster".into()),
        Err(error) => Reply::Refused(format!("no command: {error}")),
    };
    stream.write_all(format!("{}\n", serde_json::to_string(&reply)?).as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn read_line(stream: &mut TcpStream) -> Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line).await?;
    Ok(line)
}

/// Asks the cluster that runs in a folder, and prints what it answers.
pub(super) async fn ask(folder: &Path, command: Command, output: Output) -> Result<(), Failure> {
    let contact = folder::read_contact(folder)?;
    let call = Call { token: contact.token, command };
    match exchange(contact.address, &call).await? {
        Reply::Done(text) => output.answer(&json!({ "done": text }), &text),
        Reply::Status(status) => report::status(&status, output),
        Reply::Refused(why) => Err(Failure::No(why)),
    }
}

async fn exchange(address: SocketAddr, call: &Call) -> Result<Reply, Failure> {
    let gone = |error: std::io::Error| {
        Failure::Unreachable(format!(
            "the cluster does not answer at {address} ({error}); if it was killed, start it again \
             with `meridian dev`"
        ))
    };
    let mut stream = TcpStream::connect(address).await.map_err(gone)?;
    let line = serde_json::to_string(call).context("the command cannot be written")?;
    stream.write_all(format!("{line}\n").as_bytes()).await.map_err(gone)?;
    let answer = read_line(&mut stream).await?;
    Ok(serde_json::from_str(&answer).context("the cluster stopped before it answered")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn door() -> (SocketAddr, mpsc::Receiver<Asked>) {
        let (sender, asked) = mpsc::channel(WAITING_COMMANDS);
        (open("right".into(), sender).await.unwrap().0, asked)
    }

    fn call(token: &str) -> Call {
        let command = Command::Heal { between: Some(("us".into(), "eu".into())), wait: true };
        Call { token: token.into(), command }
    }

    #[tokio::test]
    async fn a_command_is_carried_there_and_its_answer_back() {
        let (address, mut asked) = door().await;
        let supervisor = async {
            let (command, reply) = asked.recv().await.unwrap();
            assert_eq!(command, call("right").command);
            reply.send(Reply::Done("cut".into())).unwrap();
        };
        let right = call("right");
        let (answer, ()) = tokio::join!(exchange(address, &right), supervisor);
        assert!(matches!(answer, Ok(Reply::Done(text)) if text == "cut"));
    }

    #[tokio::test]
    async fn a_closed_door_still_answers_who_is_inside() {
        let (sender, mut asked) = mpsc::channel(WAITING_COMMANDS);
        let (address, door) = open("right".into(), sender).await.unwrap();
        let supervisor = async {
            let (_, reply) = asked.recv().await.unwrap();
            door.abort();
            reply.send(Reply::Done("stopped".into())).unwrap();
            assert!(asked.recv().await.is_none());
        };
        let right = call("right");
        let (answer, ()) = tokio::join!(exchange(address, &right), supervisor);
        assert!(matches!(answer, Ok(Reply::Done(text)) if text == "stopped"));
    }

    #[tokio::test]
    async fn strangers_and_noise_are_refused() {
        let (address, mut asked) = door().await;
        let answer = exchange(address, &call("wrong")).await;
        assert!(matches!(answer, Ok(Reply::Refused(why)) if why.contains("token")));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(read_line(&mut stream).await.unwrap().contains("no command"));
        assert!(asked.try_recv().is_err());
    }
}
