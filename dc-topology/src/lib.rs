//! Where data belongs: datacenters, racks, vnodes, layouts, preference lists, shapes.
//!
//! A [`Shape`] names a cluster in a file. Its [`Topology`] says which datacenters, racks and nodes
//! there are, and cuts the ring into vnodes ([`VnodeCount`]). A [`Layout`] gives every vnode an
//! ordered list of one datacenter's nodes. A [`Placement`] joins the layouts of all datacenters
//! that a keyspace is replicated to; it is what the data path reads.
//!
//! Knows: datacenters, racks, vnodes, capacities, latencies between datacenters.
//! Must not know: liveness, messages, keyspaces' tables, where a layout is stored or agreed on.
//!
//! Invariants:
//! - The same input gives the same layout on every node, today and after a restart: no clock, no
//!   randomness, no order of arrival.
//! - A vnode's replicas are distinct nodes, on as many racks as there can be.
//! - A vnode's list is never shorter than [`effective_replicas`] says.
//!
//! The algorithm, its sources and its costs are in `docs/placement.md`.
//!
//! ```
//! use meridian_topology::{Placement, Shape};
//!
//! let shape = Shape::named("three-dc")?;
//! let placement = Placement::initial(shape.topology(), shape.replication())?;
//! let topology = shape.topology();
//! let vnode = topology.vnode_of(topology.token(b"a key"));
//! assert_eq!(placement.replicas(vnode).len(), 9);
//! for (dc, nodes) in placement.replicas(vnode).per_dc() {
//!     println!("{}: {nodes:?}", topology.dc_name(dc).unwrap_or("?"));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

pub mod layout;
pub mod placement;
pub mod ring;
pub mod shape;
pub mod topology;

pub use layout::{Layout, LayoutError, Member, effective_replicas};
pub use placement::{KeyspaceMap, KeyspaceMapError, Placement, PlacementError, Replicas};
pub use ring::{VnodeCount, VnodeCountError};
pub use shape::{Shape, ShapeError};
pub use topology::{Capacity, CapacityError, DcInfo, Link, NodeInfo, Topology, TopologyError};
