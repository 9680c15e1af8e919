//! The arguments of one command: slices of the block that was read, or words typed by hand.

use std::ops::Range;

use bytes::Bytes;

/// The arguments, the command's name first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Args<'a> {
    /// Slices of a block.
    Spans {
        /// What was read.
        block: &'a Bytes,
        /// Where each argument lies in it.
        spans: &'a [Range<usize>],
    },
    /// Words of an inline command.
    Words(&'a [Bytes]),
}

impl<'a> Args<'a> {
    /// How many there are, the name included.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Spans { spans, .. } => spans.len(),
            Self::Words(words) => words.len(),
        }
    }

    /// An argument's bytes; empty beyond the end.
    pub(super) fn get(&self, n: usize) -> &'a [u8] {
        match self {
            Self::Spans { block, spans } => {
                spans.get(n).and_then(|span| block.get(span.clone())).unwrap_or_default()
            }
            Self::Words(words) => words.get(n).map_or(&[], |word| word),
        }
    }

    /// An argument that outlives its block, without a copy.
    pub(super) fn bytes(&self, n: usize) -> Bytes {
        match self {
            Self::Spans { block, spans } => {
                spans.get(n).map(|span| block.slice(span.clone())).unwrap_or_default()
            }
            Self::Words(words) => words.get(n).cloned().unwrap_or_default(),
        }
    }

    /// Whether an argument is this word, in any case.
    pub(super) fn is(&self, n: usize, word: &str) -> bool {
        self.get(n).eq_ignore_ascii_case(word.as_bytes())
    }

    /// An argument as text, with what is not UTF-8 replaced.
    pub(super) fn text(&self, n: usize) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.get(n))
    }

    /// The arguments from the `n`th on.
    pub(super) fn from(&self, n: usize) -> impl Iterator<Item = Bytes> {
        (n..self.len()).map(|n| self.bytes(n))
    }
}
