//! The world that tries to break it: link proxies and faults for real processes
#![deny(missing_docs)]
