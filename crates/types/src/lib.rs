//! Keys, tokens, ids, hybrid logical clock, consistency levels: words, no deeds
#![deny(missing_docs)]
