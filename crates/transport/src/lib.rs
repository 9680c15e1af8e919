//! Links between nodes: streams, batching, priorities, keep-alive
#![deny(missing_docs)]
