//! One node's process: started, signalled, its log kept, its end reported.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::cli::output::say;

/// Bytes of a log file after which it becomes `log.1` and a new one begins.
const LOG_BYTES: u64 = 16 << 20;

/// Last lines that are shown when a node dies.
const TAIL_LINES: usize = 15;

/// Most lines of one node's log that are shown in a second; the rest is in the file.
const SHOWN_LINES: usize = 20;

/// Orders that wait for a process. More are refused.
const WAITING_ORDERS: usize = 8;

/// How a node is started.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) log: PathBuf,
}

/// What a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Terminate,
    Kill,
    Pause,
    Resume,
}

/// A process ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) name: String,
    /// `exit status: 1`, `signal: 9 (SIGKILL)`.
    pub(super) how: String,
    /// Its last lines.
    pub(super) tail: Vec<String>,
}

/// A process that runs, or ran.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    orders: mpsc::Sender<Order>,
    /// True once it has ended.
    pub(super) ended: watch::Receiver<bool>,
}

impl Process {
    /// Starts it. Its end is sent to `ended`.
    pub(super) fn start(plan: &Plan, ended: mpsc::Sender<Ended>) -> Result<Self> {
        let log = Log::open(&plan.name, &plan.log)?;
        let mut child = Command::new(&plan.program)
            .args(&plan.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is for the supervisor, which stops the nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", plan.program.display()))?;
        let pid = child.id().context("the process ended while it was started")?;
        let lines = child.stderr.take().context("the process has no standard error")?;
        let (sender, orders) = mpsc::channel(WAITING_ORDERS);
        let (gone, ended_watch) = watch::channel(false);
        let name = plan.name.clone();
        tokio::spawn(async move {
            let logging = tokio::spawn(keep_log(lines, log));
            let how = attend(&mut child, orders).await;
            // The pipe ends with the process, unless a child of its own holds it.
            let tail = timeout(Duration::from_secs(2), logging).await;
            let tail = tail.ok().and_then(Result::ok).unwrap_or_default();
            gone.send_replace(true);
            // The supervisor is gone when nobody receives; then nobody asks.
            let _ = ended.send(Ended { name, how, tail }).await;
        });
        Ok(Self { pid, orders: sender, ended: ended_watch })
    }

    /// Passes an order on; false where the process has ended already.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }
}

/// Carries out orders until the process ends; how it did.
async fn attend(child: &mut Child, mut orders: mpsc::Receiver<Order>) -> String {
    // The node stops when its standard input ends: held here, for `wait` would close it.
    let _input = child.stdin.take();
    loop {
        let order = tokio::select! {
            status = child.wait() => {
                return status.map_or_else(|e| format!("unknown: {e}"), |s| s.to_string());
            }
            Some(order) = orders.recv() => order,
        };
        let signal = match order {
            Order::Terminate => Signal::TERM,
            Order::Kill => Signal::KILL,
            Order::Pause => Signal::STOP,
            Order::Resume => Signal::CONT,
        };
        // The child was not waited for yet, so its pid is still its own.
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
            say(format_args!("{order:?} did not reach the process: {error}"));
        }
    }
}

/// A node's log file, bounded, and what of it the terminal shows.
struct Log {
    name: String,
    path: PathBuf,
    file: File,
    bytes: u64,
    tail: VecDeque<String>,
    shown: usize,
    shown_since: Instant,
}

impl Log {
    fn open(name: &str, path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.with_context(|| format!("the log {} cannot be opened", path.display()))?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            file,
            bytes,
            tail: VecDeque::new(),
            shown: 0,
            shown_since: Instant::now(),
        })
    }

    fn line(&mut self, line: String) {
        if let Err(error) = self.write(&line) {
            say(format_args!("[{}] the log cannot be written: {error}", self.name));
        }
        if is_for_the_operator(&line) {
            self.show(&line);
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes > LOG_BYTES {
            fs::rename(&self.path, self.path.with_extension("1"))?;
            self.file = File::create(&self.path)?;
            self.bytes = 0;
        }
        self.bytes += line.len() as u64 + 1;
        self.file.write_all(format!("{line}\n").as_bytes())
    }

    fn show(&mut self, line: &str) {
        if self.shown_since.elapsed() > Duration::from_secs(1) {
            (self.shown, self.shown_since) = (0, Instant::now());
        }
        self.shown += 1;
        if self.shown <= SHOWN_LINES {
            say(format_args!("[{}] {line}", self.name));
        } else if self.shown == SHOWN_LINES + 1 {
            say(format_args!("[{}] more lines are in {}", self.name, self.path.display()));
        }
    }
}

/// Warnings and errors; and what no logger wrote, like a panic.
fn is_for_the_operator(line: &str) -> bool {
    let level = line.split_whitespace().nth(1).unwrap_or_default();
    let levels = ["INFO", "DEBUG", "TRACE"];
    !line.trim().is_empty() && !levels.contains(&level) && !line.starts_with("{\"timestamp\"")
        || line.contains("\"level\":\"WARN\"")
        || line.contains("\"level\":\"ERROR\"")
}

async fn keep_log(from: impl AsyncRead + Unpin, mut log: Log) -> Vec<String> {
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        log.line(String::from_utf8_lossy(&line).into_owned());
    }
    log.tail.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails a test that hangs; no result depends on it.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn shell(folder: &Path, script: &str) -> Plan {
        Plan {
            name: "us-1".into(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            log: folder.join("us-1/log"),
        }
    }

    async fn end(ended: &mut mpsc::Receiver<Ended>) -> Ended {
        timeout(PATIENCE, ended.recv()).await.expect("the process ends").unwrap()
    }

    async fn logged(path: &Path, text: &str) {
        let waiting = async {
            while !fs::read_to_string(path).is_ok_and(|log| log.contains(text)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the line is logged");
    }

    #[tokio::test]
    async fn a_death_is_reported_with_the_last_lines() {
        let home = tempfile::tempdir().unwrap();
        let (sender, mut ended) = mpsc::channel(1);
        let script = "for n in $(seq 30); do echo t INFO line $n >&2; done; exit 3";
        let process = Process::start(&shell(home.path(), script), sender).unwrap();
        let Ended { name, how, tail } = end(&mut ended).await;
        assert_eq!((name.as_str(), how.as_str()), ("us-1", "exit status: 3"));
        assert_eq!(tail.len(), TAIL_LINES);
        assert_eq!(tail.last().unwrap(), "t INFO line 30");
        assert!(*process.ended.borrow() && !process.order(Order::Kill));
    }

    #[tokio::test]
    async fn a_process_is_stopped_paused_and_killed() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("us-1/log");
        let script = "trap 'echo stopping >&2; exit 0' TERM; echo up >&2; while :; do read x; done";
        let (sender, mut ended) = mpsc::channel(1);
        let process = Process::start(&shell(home.path(), script), sender.clone()).unwrap();
        logged(&log, "up").await;
        assert!(process.order(Order::Terminate));
        assert_eq!(end(&mut ended).await.how, "exit status: 0");
        logged(&log, "stopping").await;

        let process =
            Process::start(&shell(home.path(), "echo again >&2; read x"), sender).unwrap();
        logged(&log, "again").await;
        assert!(process.order(Order::Pause) && process.order(Order::Kill));
        assert!(end(&mut ended).await.how.contains("SIGKILL"));
    }

    #[test]
    fn the_operator_sees_warnings_errors_and_panics() {
        for (line, shown) in [
            ("2026-11-22T21:00:00.1Z  WARN meridian: link down", true),
            ("2026-11-22T21:00:00.1Z ERROR meridian: disk", true),
            ("2026-11-22T21:00:00.1Z  INFO meridian: up", false),
            ("thread 'main' panicked at src/main.rs:1:1:", true),
            ("{\"timestamp\":\"t\",\"level\":\"INFO\"}", false),
            ("{\"timestamp\":\"t\",\"level\":\"WARN\"}", true),
            ("", false),
        ] {
            assert_eq!(is_for_the_operator(line), shown, "{line}");
        }
    }

    #[test]
    fn a_log_file_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        let mut log = Log::open("us-1", &path).unwrap();
        log.bytes = LOG_BYTES + 1;
        log.line("t INFO first of the new file".into());
        assert!(home.path().join("log.1").exists());
        assert!(fs::read_to_string(path).unwrap().starts_with("t INFO first"));
    }
}
