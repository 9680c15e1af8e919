//! What a person sees of a development cluster.

use std::fmt::Write;

use meridian_chaos::WayStatus;

use super::control::{NodeStatus, Status};
use crate::cli::output::{Failure, Output, table};

/// What is printed when the cluster is up.
pub(super) fn up(status: &Status, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.line(json(status)?);
    }
    output.line(nodes(&status.nodes))?;
    output.line(try_next(status))
}

/// The answer to `meridian dev status`.
pub(super) fn status(status: &Status, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.line(json(status)?);
    }
    output.line(nodes(&status.nodes))?;
    let resident: Vec<u64> = status.nodes.iter().filter_map(|node| node.resident_bytes).collect();
    if let Some(most) = resident.iter().max() {
        let total = resident.iter().sum::<u64>();
        output.line(format_args!(
            "memory: {} MB resident in all, {} MB at most in a node",
            total >> 20,
            most >> 20
        ))?;
    }
    if !status.links.is_empty() {
        output.line(links(&status.links))?;
    }
    let wan = if status.wan { "with" } else { "without" };
    let folder = status.folder.display();
    output.line(format_args!("shape {} in {folder}, {wan} --wan latencies", status.shape))
}

fn json(status: &Status) -> Result<String, Failure> {
    Ok(serde_json::to_string(status).map_err(anyhow::Error::from)?)
}

fn nodes(nodes: &[NodeStatus]) -> String {
    let mut rows = table(["node", "dc", "rack", "RESP", "REST", "gRPC", "state", "pid", "MB"]);
    for node in nodes {
        rows.add_row([
            node.name.clone(),
            node.datacenter.clone(),
            node.rack.clone(),
            node.resp.to_string(),
            format!("http://{}", node.rest),
            node.grpc.to_string(),
            node.state.clone(),
            node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            node.resident_bytes.map_or_else(|| "-".to_owned(), |bytes| (bytes >> 20).to_string()),
        ]);
    }
    rows.to_string()
}

fn links(links: &[WayStatus]) -> String {
    let mut rows = table(["from", "to", "state", "latency", "passed", "under way"]);
    for way in links {
        let latency = way.conditions.latency.as_millis();
        rows.add_row([
            way.from.clone(),
            way.to.clone(),
            if way.conditions.cut { "CUT" } else { "open" }.to_owned(),
            format!("{latency} ± {} ms", way.conditions.jitter.as_millis()),
            format!("{} KiB", way.passed_bytes >> 10),
            format!("{} KiB", way.held_bytes >> 10),
        ]);
    }
    rows.to_string()
}

fn try_next(status: &Status) -> String {
    let mut text = "\nTry next, in a second terminal:\n".to_owned();
    let mut line = |command: String, about: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {command:<74} {about}");
    };
    let data = match status.folder.ends_with(super::DEFAULT_FOLDER) {
        true => String::new(),
        false => format!(" --data {}", status.folder.display()),
    };
    line(
        "meridian import examples/data/cities.jsonl --table geo.cities --key id".into(),
        "34,006 cities",
    );
    line("meridian get geo.cities 2643743".into(), "one of them");
    if let Some(node) = status.nodes.first() {
        line(format!("redis-cli -p {} set color blue", node.resp.port()), "any Redis client");
        line(format!("curl http://{}/v1/kv/redis/db0/color", node.rest), "the same through REST");
    }
    if let Some(way) = status.links.first() {
        line(
            format!("meridian dev cut {} {}{data}", way.from, way.to),
            "cut two datacenters apart",
        );
        line(format!("meridian dev heal{data}"), "and join them again");
    }
    if let (Some(node), true) = (status.nodes.first(), status.nodes.len() > 1) {
        line(format!("meridian dev kill {}{data}", node.name), "then: meridian dev start ...");
    }
    line(format!("meridian dev status{data}"), "nodes, memory, links");
    text.push_str(&format!(
        "\nData, configuration and logs are in {}. Ctrl-C stops everything; the data stays.",
        status.folder.display()
    ));
    text
}
