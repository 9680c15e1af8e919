//! The control plane of one replica: liveness, hint handoff, anti-entropy pacing
#![deny(missing_docs)]
