//! The Rust SDK: a client of any node, over gRPC.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use meridian_client::{Client, ClientOptions};
//!
//! // Nodes of the own datacenter first: they are asked first.
//! let client = Client::connect(ClientOptions::new(["127.0.0.1:7400", "127.0.0.1:7410"])).await?;
//! let cities = client.table("geo.cities")?;
//! cities.put("zurich", "400000").await?;
//! let got = cities.get("zurich").await?;
//! assert_eq!(got.values[0].value, "400000");
//! # Ok(()) }
//! ```
//!
//! # Siblings
//!
//! A `siblings` table keeps values that were written at the same time. A reader gets all of them
//! with a context; a put with that context replaces them, and nothing else:
//!
//! ```no_run
//! # async fn example(client: meridian_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let carts = client.table("shop.carts")?;
//! let cart = carts.get_resolved("ann", |values| longest(values)).await?;
//! let value = [cart.value.as_deref().unwrap_or_default(), b" tea"].concat();
//! carts.put_after(&cart, value).await?;
//!
//! fn longest(values: &[meridian_client::ReadValue]) -> bytes::Bytes {
//!     values.iter().max_by_key(|v| v.value.len()).map(|v| v.value.clone()).unwrap_or_default()
//! }
//! # Ok(()) }
//! ```
//!
//! # Pages
//!
//! ```no_run
//! # async fn example(client: meridian_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let mut pages = client.table("geo.cities")?.scan().prefix("z").limit(500).pages();
//! while let Some(page) = pages.next_page().await? {
//!     println!("{} rows", page.rows.len());
//! }
//! # Ok(()) }
//! ```
//!
//! # Sessions
//!
//! What one user does is seen by that user, whichever node serves it, at every level:
//!
//! ```no_run
//! # async fn example(client: meridian_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use meridian_client::ConsistencyLevel;
//!
//! let ann = client.session();
//! let profiles = ann.table("shop.profiles")?.at(ConsistencyLevel::One);
//! profiles.put("ann", "likes tea").await?;
//! // On another node, in another datacenter: what was written, or what came after it.
//! let profile = profiles.get("ann").await?;
//! # Ok(()) }
//! ```
//!
//! # Failures
//!
//! A node that does not answer is left for another one; what a node refuses for now is tried again,
//! a bounded number of times, within the caller's time. A write is tried again only if that cannot
//! do it twice: every write has an id, the same in each attempt. Each error says what it did to the
//! data: [`ClientError::effect`].
//!
//! Knows: endpoints, deadlines, what may be retried.
//! Must not know: the ring, replicas, anything of the server's inside.
#![deny(missing_docs)]

mod call;
mod client;
mod endpoints;
mod error;
mod options;
mod retry;
mod session;
mod table;

pub use client::Client;
pub use error::ClientError;
pub use options::{ClientOptions, Password};
pub use session::Session;
pub use table::{Pages, Resolved, Scanning, Table};

pub use meridian_service::{
    AcceptLoss, AtomicBatch, Batch, BatchOutcome, ClusterView, Condition, CreateKeyspace,
    CreateTable, Delete, Effect, Expiry, Get, GetOutcome, MultiGet, Outcome, Put, PutItem,
    PutOutcome, ReadValue, ReplicaRow, Request, RequestError, Scan, ScanOutcome, ScanRow,
    TableView, TableWrite, Touch, TouchOutcome,
};
pub use meridian_types::{
    ConflictPolicy, ConsistencyLevel, KeyspaceDef, Millis, TableDef, TableName, TableNameError,
    TableOptions, WriteId,
};
