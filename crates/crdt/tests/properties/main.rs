//! Laws of the joins, encodings and tokens, by property and by golden bytes.

mod codec;
mod draw;
mod golden;
mod laws;
mod mvreg;
mod sessions;
mod sweep;
mod tokens;
