//! Words of errors that are `&'static str` at home: the name of a queue, of a field, of a part.
//!
//! A decoded error has the same words, so they are kept once each for as long as the process
//! lives. There are a few dozen; a broken or hostile node cannot make this grow, because both the
//! number and the length are bounded.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Most words that are kept. The errors of this version have fewer than a hundred.
const MAX_WORDS: usize = 512;
/// Longest word, in bytes: a sentence about a level fits.
const MAX_WORD_BYTES: usize = 512;
/// Stands for words beyond the bounds.
const SOME_WORD: &str = "(a word that this version does not know)";

static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

pub(super) fn intern(word: &str) -> &'static str {
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(word) {
        return known;
    }
    if words.len() >= MAX_WORDS || word.len() > MAX_WORD_BYTES {
        return SOME_WORD;
    }
    let kept: &'static str = Box::leak(word.to_owned().into_boxed_str());
    words.insert(kept);
    kept
}
