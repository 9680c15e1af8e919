//! Where data belongs: datacenters, racks, vnodes, layouts, preference lists, shapes
#![deny(missing_docs)]
