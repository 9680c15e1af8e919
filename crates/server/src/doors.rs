//! Opening and closing all doors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use meridian_service::Service;
use meridian_telemetry::{Door, Metrics};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::front::Front;
use crate::listener::Hall;
use crate::{DoorAddresses, DoorsOptions, HealthSource, grpc, resp, rest};

/// A door that could not be opened. None is open then.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address cannot be listened on.
    #[error("the {door} door cannot listen on {address}")]
    Bind {
        /// Which door.
        door: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        why: io::Error,
    },
    /// The address is reachable from elsewhere and there is no password.
    #[error(
        "the {door} door would let everybody in who reaches {address}: set a password, or say that \
         a public door without one is meant"
    )]
    Public {
        /// Which door.
        door: &'static str,
        /// Its address.
        address: SocketAddr,
    },
    /// The keyspace of RESP's databases has a name that is not allowed.
    #[error("the keyspace of RESP's databases")]
    Keyspace(#[from] meridian_types::TableNameError),
    /// The contracts that gRPC's reflection shows cannot be read: a bug in the build.
    #[error("gRPC reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The open doors of one node.
pub struct Doors {
    halls: Vec<Hall>,
    addresses: DoorAddresses,
    grpc_health: Option<grpc::HealthReporter>,
    options: Arc<DoorsOptions>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

async fn bind(
    options: &DoorsOptions,
    door: Door,
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, DoorError> {
    let Some(address) = address else { return Ok(None) };
    let door = door.name();
    let open_to_all = options.password.is_none() && !options.allow_public_without_password;
    if open_to_all && !address.ip().is_loopback() {
        return Err(DoorError::Public { door, address });
    }
    let why = |why| DoorError::Bind { door, address, why };
    let listener = TcpListener::bind(address).await.map_err(why)?;
    let bound = listener.local_addr().map_err(why)?;
    Ok(Some((listener, bound)))
}

impl Doors {
    /// Binds all addresses, then lets clients in.
    ///
    /// # Errors
    /// See [`DoorError`].
    pub async fn open<S: Service>(
        service: Arc<S>,
        metrics: Arc<Metrics>,
        health: Arc<dyn HealthSource>,
        options: DoorsOptions,
    ) -> Result<Self, DoorError> {
        meridian_types::key::check_keyspace_name(&options.resp_keyspace)?;
        let options = Arc::new(options);
        let front = Front::new(service, metrics.requests().clone(), options.clone());
        let resp = bind(&options, Door::Resp, options.resp).await?;
        let rest = bind(&options, Door::Rest, options.rest).await?;
        let grpc = bind(&options, Door::Grpc, options.grpc).await?;
        let stopping = CancellationToken::new();
        let hall = |door| {
            Hall::new(options.limits.connections, metrics.door(door), stopping.child_token())
        };
        let mut doors = Self {
            halls: Vec::new(),
            addresses: DoorAddresses::default(),
            grpc_health: None,
            options: options.clone(),
            stopping: stopping.clone(),
            tasks: front.tasks().clone(),
        };
        if let Some((listener, bound)) = grpc {
            let hall = hall(Door::Grpc);
            doors.grpc_health = Some(grpc::open(&hall, listener, front.clone()).await?);
            doors.addresses.grpc = Some(bound);
            doors.halls.push(hall);
        }
        if let Some((listener, bound)) = rest {
            let hall = hall(Door::Rest);
            rest::open(&hall, listener, front.clone(), metrics.clone(), health);
            doors.addresses.rest = Some(bound);
            doors.halls.push(hall);
        }
        if let Some((listener, bound)) = resp {
            let hall = hall(Door::Resp);
            resp::open(&hall, listener, front);
            doors.addresses.resp = Some(bound);
            doors.halls.push(hall);
        }
        Ok(doors)
    }

    /// Where the doors listen.
    #[must_use]
    pub fn addresses(&self) -> DoorAddresses {
        self.addresses
    }

    /// Lets nobody in any more, waits for the requests that run (at most
    /// [`crate::DoorLimits::drain`]), answers them, and closes every connection.
    pub async fn close(self) {
        if let Some(health) = &self.grpc_health {
            health.not_serving().await;
        }
        self.stopping.cancel();
        let drain = self.options.limits.drain;
        futures::future::join_all(self.halls.iter().map(|hall| hall.close(drain))).await;
        self.tasks.close();
        if tokio::time::timeout(drain, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "requests did not end in time");
        }
    }
}
