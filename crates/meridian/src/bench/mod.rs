//! Load against any door.
