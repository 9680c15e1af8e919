//! One node: opens the store, joins the links, opens the doors, stops cleanly on a signal.

use anyhow::{Result, bail};
use meridian_options::Options;

/// Runs a node until it is told to stop.
///
/// # Errors
/// What keeps the node from starting, or made it stop.
#[expect(clippy::unused_async, reason = "the node's parts are not assembled yet")]
pub(crate) async fn run(options: Options) -> Result<()> {
    bail!("node {} cannot start: this build has no server yet", options.node.name)
}
