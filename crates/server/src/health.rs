//! What `/health` shows.

use serde::Serialize;

/// How one aspect of the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but somebody should look.
    Degraded,
    /// It does not work.
    Failed,
}

/// One aspect and why it is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How it is.
    pub status: CheckStatus,
    /// Why, as a sentence for people; empty while all is well.
    pub reason: String,
}

impl Check {
    /// All is well.
    #[must_use]
    pub fn ok() -> Self {
        Self { status: CheckStatus::Ok, reason: String::new() }
    }

    /// It works, but somebody should look.
    #[must_use]
    pub fn degraded(reason: impl Into<String>) -> Self {
        Self { status: CheckStatus::Degraded, reason: reason.into() }
    }

    /// It does not work.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { status: CheckStatus::Failed, reason: reason.into() }
    }
}

/// The node's health. A load balancer looks at the worst of it, an operator at the reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// This process: started, not stopping, its jobs run.
    pub node: Check,
    /// The other nodes, as this one sees them.
    pub cluster: Check,
    /// What is stored: readable, synced, repaired.
    pub data: Check,
    /// Latencies, stalls, queues.
    pub performance: Check,
    /// Disk and memory.
    pub capacity: Check,
}

impl Health {
    /// All is well.
    #[must_use]
    pub fn ok() -> Self {
        let ok = Check::ok();
        Self {
            node: ok.clone(),
            cluster: ok.clone(),
            data: ok.clone(),
            performance: ok.clone(),
            capacity: ok,
        }
    }

    /// The worst of the checks.
    #[must_use]
    pub fn worst(&self) -> CheckStatus {
        [&self.node, &self.cluster, &self.data, &self.performance, &self.capacity]
            .into_iter()
            .map(|check| check.status)
            .fold(CheckStatus::Ok, CheckStatus::max)
    }
}

/// Knows how the node is. Asked on every `/health`; answers from what it has, without waiting.
pub trait HealthSource: Send + Sync + 'static {
    /// How the node is now.
    fn health(&self) -> Health;
}
