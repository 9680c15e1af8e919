//! What the tests of the doors share: opening them, and a client for each that knows no more than
//! its protocol.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod fake;
pub(crate) mod http;
pub(crate) mod resp;

use std::sync::Arc;

use meridian_server::{DoorAddresses, Doors, DoorsOptions, Health, HealthSource};
use meridian_service::Service;
use meridian_telemetry::Metrics;
use parking_lot::Mutex;

/// A health that tests set.
pub(crate) struct Mood(pub(crate) Mutex<Health>);

impl HealthSource for Mood {
    fn health(&self) -> Health {
        self.0.lock().clone()
    }
}

pub(crate) struct House {
    pub(crate) doors: Doors,
    pub(crate) at: DoorAddresses,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mood: Arc<Mood>,
}

/// All three doors on free ports.
pub(crate) fn everywhere() -> DoorsOptions {
    let any = Some(([127, 0, 0, 1], 0).into());
    DoorsOptions { resp: any, rest: any, grpc: any, ..DoorsOptions::default() }
}

pub(crate) async fn open<S: Service>(service: Arc<S>, options: DoorsOptions) -> House {
    let metrics = Arc::new(Metrics::new());
    let mood = Arc::new(Mood(Mutex::new(Health::ok())));
    let doors = Doors::open(service, metrics.clone(), mood.clone(), options).await.unwrap();
    House { at: doors.addresses(), doors, metrics, mood }
}
