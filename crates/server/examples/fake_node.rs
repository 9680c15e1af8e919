//! Opens the three doors in front of a table in memory, to try clients and to measure what a door
//! costs by itself: `cargo run --release -p meridian-server --example fake_node`.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example that talks to its user"
)]

#[path = "../tests/common/fake.rs"]
mod fake;

use std::sync::Arc;

use meridian_server::{Doors, DoorsOptions, Health, HealthSource, Password};
use meridian_telemetry::Metrics;

struct Well;

impl HealthSource for Well {
    fn health(&self) -> Health {
        Health::ok()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut arguments = std::env::args().skip(1);
        let base: u16 = arguments.next().map_or(Ok(6400), |port| port.parse())?;
        let options = DoorsOptions {
            resp: Some(([127, 0, 0, 1], base).into()),
            rest: Some(([127, 0, 0, 1], base + 1).into()),
            grpc: Some(([127, 0, 0, 1], base + 2).into()),
            password: arguments.next().map(Password::new),
            ..DoorsOptions::default()
        };
        let service = Arc::new(fake::Fake::default());
        let metrics = Arc::new(Metrics::new());
        let doors = Doors::open(service, metrics, Arc::new(Well), options).await?;
        println!("{:?}", doors.addresses());
        tokio::signal::ctrl_c().await?;
        doors.close().await;
        Ok(())
    })
}
