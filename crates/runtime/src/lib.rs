//! Clock, timers and jobs on tokio: carries out what the machines ask for
#![deny(missing_docs)]
