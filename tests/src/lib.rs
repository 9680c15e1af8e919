//! Starts real clusters for the black-box tests: real processes, real sockets, free ports, a
//! temporary folder each, so that tests run side by side.
#![deny(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "black-box tests run processes and wait for them")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use meridian_client::{Client, ClientOptions};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up. Far beyond what it takes: a test that waits
/// this long has failed, and says for what it waited.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A cluster that `meridian dev` runs.
pub struct Cluster {
    dev: Child,
    folder: TempDir,
    shape: &'static str,
}

/// A node of a cluster, and where its doors are.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Its RESP door.
    pub resp: String,
    /// Its REST door.
    pub rest: String,
    /// Its gRPC door.
    pub grpc: String,
}

impl Cluster {
    /// Starts a cluster of a shape and waits until all its nodes see each other.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(shape: &'static str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let dev = spawn(shape, folder.path())?;
        let cluster = Self { dev, folder, shape };
        cluster.wait_until_whole().await.with_context(|| cluster.log())?;
        Ok(cluster)
    }

    /// Stops every node in order, and starts them again with their data.
    ///
    /// # Errors
    /// They do not stop, or do not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.meridian(&["dev", "stop"])?;
        self.dev.wait()?;
        self.dev = spawn(self.shape, self.folder.path())?;
        self.wait_until_whole().await.with_context(|| self.log())
    }

    /// What the supervisor and its nodes had to say, for a test that fails.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("dev.log"));
        log.unwrap_or_else(|error| format!("there is no dev.log: {error}"))
    }

    /// Runs the binary against this cluster, and parses what it answers.
    ///
    /// # Errors
    /// It fails; the error holds what it printed.
    pub fn meridian(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(binary()?)
            .args(arguments)
            .args(["--json", "--data"])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "meridian {arguments:?}: {text}{errors}");
        Ok(serde_json::from_str(text.trim()).unwrap_or(Value::String(text.into_owned())))
    }

    /// The nodes.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let status = self.meridian(&["dev", "status"])?;
        let nodes = status["nodes"].as_array().context("dev status lists nodes")?;
        nodes.iter().map(node_of).collect()
    }

    /// A client of one datacenter's nodes.
    ///
    /// # Errors
    /// None of them answers.
    pub async fn client(&self, datacenter: &str) -> Result<Client> {
        let nodes = self.nodes()?;
        let doors = nodes.into_iter().filter(|node| node.datacenter == datacenter);
        let mut options = ClientOptions::new(doors.map(|node| node.grpc));
        // Nine debug builds share two cores with other tests.
        options.timeout = Duration::from_secs(30);
        Ok(Client::connect(options).await?)
    }

    /// Waits until every node can reach every other one.
    ///
    /// # Errors
    /// They do not.
    pub async fn wait_until_whole(&self) -> Result<()> {
        eventually("all nodes run", async || {
            let status = self.meridian(&["dev", "status"]).unwrap_or_default();
            status["ready"].as_bool() == Some(true)
        })
        .await?;
        for node in self.nodes()? {
            let client = Client::connect(ClientOptions::new([node.grpc.clone()])).await?;
            eventually(&format!("{} sees all others", node.name), async || {
                let view = client.cluster().await;
                view.is_ok_and(|view| view.nodes.iter().all(|other| other.alive))
            })
            .await?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nodes stop when the process that started them is gone.
        let asked = self.meridian(&["dev", "stop"]);
        if asked.is_err() && self.dev.kill().is_err() {
            return;
        }
        // It is over either way.
        drop(self.dev.wait());
    }
}

fn spawn(shape: &str, folder: &Path) -> Result<Child> {
    let arguments = ["dev", "--shape", shape, "--ports", "auto"];
    let log = std::fs::File::create(folder.join("dev.log"))?;
    let child = Command::new(binary()?)
        .args(arguments)
        .arg("--data")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

fn node_of(node: &Value) -> Result<Node> {
    let text = |key: &str| {
        let text = node[key].as_str().with_context(|| format!("dev status names {key}"));
        text.map(str::to_owned)
    };
    Ok(Node {
        name: text("name")?,
        datacenter: text("datacenter")?,
        resp: text("resp")?,
        rest: text("rest")?,
        grpc: text("grpc")?,
    })
}

/// The binary beside the running test: `cargo test --workspace` builds it with the tests.
///
/// # Errors
/// It is not there.
pub fn binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("tests run from target/*/deps")?;
    let binary = profile.join("meridian");
    if !binary.exists() {
        bail!("{} is not there; run `cargo build -p meridian` first", binary.display());
    }
    Ok(binary)
}

/// Waits until a condition holds.
///
/// # Errors
/// It does not within [`PATIENCE`].
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if condition().await {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("gave up waiting until {what}");
        }
    }
}
