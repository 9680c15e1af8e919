//! Where log lines go: standard error, at the configured level and in the configured format.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use meridian_options::LogFormat;
use tracing_subscriber::EnvFilter;

/// Starts writing log lines. Lines are written before the call that logs returns, so that a crash
/// loses none.
///
/// # Errors
/// The level is no filter; nothing was started.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::builder().parse(level).with_context(|| {
        format!(
            "`telemetry.level` is {level:?}; allowed: error, warn, info, debug, trace, or a list \
             of target=level"
        )
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(anyhow::Error::from_boxed).context("log lines cannot be written")
}
