//! The process in the foreground: starts the nodes and the links between their datacenters, takes
//! commands, reports deaths, stops everything.

mod cluster;
mod notice;
mod start;

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::args::DevArgs;
use super::control::{Asked, Command, Reply};
use super::process::Ended;
use super::report;
use crate::cli::output::{Failure, Output, say};
use cluster::Cluster;
use start::Readiness;

/// How long nodes may take to stop before they are killed: a flush of full memtables fits.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// How long callers may take to read their last answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// What reaches the supervisor.
struct Inbox {
    ended: mpsc::Receiver<Ended>,
    asked: mpsc::Receiver<Asked>,
    ready: oneshot::Receiver<Readiness>,
    /// Closes the control door.
    door: AbortHandle,
}

/// Runs a cluster until it is told to stop.
pub(super) async fn run(args: &DevArgs, output: Output) -> Result<(), Failure> {
    crate::logging::start("warn", meridian_options::LogFormat::Text)?;
    let begun = Instant::now();
    let (mut cluster, mut inbox) = start::start(args, output).await?;
    let served = serve(&mut cluster, &mut inbox, begun, output).await;
    let asked = match &served {
        Ok(asked) => asked.is_some(),
        Err(_) => false,
    };
    output.note(if asked { "stopping, as `meridian dev stop` says ..." } else { "stopping ..." });
    let killed = stop(&mut cluster, &mut inbox).await;
    let stopped = match killed.as_slice() {
        [] => "all nodes stopped cleanly".to_owned(),
        names => format!("stopped; killed because they did not stop: {}", names.join(", ")),
    };
    output.note(&stopped);
    // The folder is free before anybody hears that the cluster has stopped.
    drop(cluster);
    inbox.door.abort();
    if let Some(reply) = served? {
        // The caller may be gone; otherwise it has its answer before this process ends.
        let _ = reply.send(Reply::Done(stopped));
        let answered = async { while inbox.asked.recv().await.is_some() {} };
        let _ = timeout(ANSWER_PATIENCE, answered).await;
    }
    Ok(())
}

/// Until a signal or a command ends it; the one who asked for the end.
async fn serve(
    cluster: &mut Cluster,
    inbox: &mut Inbox,
    begun: Instant,
    output: Output,
) -> Result<Option<oneshot::Sender<Reply>>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(None),
            _ = terminate.recv() => return Ok(None),
            Some(ended) = inbox.ended.recv() => {
                let expected = cluster.ended(&ended);
                if !expected {
                    report_death(&ended);
                    if !cluster.ready {
                        let context = format!("{} did not start: {}", ended.name, ended.how);
                        return Err(anyhow::anyhow!(context).into());
                    }
                }
            }
            readiness = &mut inbox.ready, if !cluster.ready => {
                let readiness = readiness.context("nobody watched the start")?;
                if !readiness.silent.is_empty() {
                    let names = readiness.silent.join(", ");
                    return Err(Failure::Other(anyhow::anyhow!(
                        "no answer from {names} within {} s; their logs are in {}",
                        start::START_PATIENCE.as_secs(),
                        cluster.folder.path().display()
                    )));
                }
                cluster.ready = true;
                report::up(&cluster.status(), output)?;
                for (name, why) in readiness.unwell {
                    say(format_args!("{name} is up, but not well: {}", why.trim()));
                }
                output.note(format_args!("up in {:.1} s", begun.elapsed().as_secs_f64()));
            }
            Some((command, reply)) = inbox.asked.recv() => {
                if command == Command::Stop {
                    return Ok(Some(reply));
                }
                cluster.command(command, reply);
            }
        }
    }
}

fn report_death(ended: &Ended) {
    say(format_args!("{} died: {}; its last lines:", ended.name, ended.how));
    for line in &ended.tail {
        say(format_args!("  [{}] {line}", ended.name));
    }
    say(format_args!("start it again with: meridian dev start {}", ended.name));
}

/// Terminates every node, and kills those that do not end; their names.
async fn stop(cluster: &mut Cluster, inbox: &mut Inbox) -> Vec<String> {
    cluster.terminate_all();
    let deadline = Instant::now() + STOP_PATIENCE;
    while cluster.any_running() {
        match timeout_at(deadline, inbox.ended.recv()).await {
            Ok(Some(ended)) => {
                cluster.ended(&ended);
            }
            Ok(None) => break,
            Err(_elapsed) => {
                let late = cluster.kill_all();
                while cluster.any_running() {
                    let Some(ended) = inbox.ended.recv().await else { break };
                    cluster.ended(&ended);
                }
                return late;
            }
        }
    }
    Vec::new()
}
