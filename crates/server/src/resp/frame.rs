//! Where one command of the stream ends and the next begins.
//!
//! The parser holds offsets only. It goes over the buffer once, however the bytes arrive, and
//! takes no memory on a client's word: an announced length is checked, not reserved.

use std::ops::Range;

use bytes::Bytes;

/// Longest header line, `*<n>\r\n` or `$<n>\r\n`: 20 digits and a sign fit.
const MAX_HEADER_BYTES: usize = 32;

/// The bounds of one command.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameLimits {
    /// Most arguments.
    pub(super) args: usize,
    /// Longest argument, in bytes.
    pub(super) arg_bytes: usize,
    /// Longest inline command, in bytes.
    pub(super) inline_bytes: usize,
    /// Longest command, in bytes.
    pub(super) command_bytes: usize,
}

/// Bytes that are no command. Nothing behind them can be understood, so the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// A count of arguments that is no number, or over the limit.
    #[error("Protocol error: invalid multibulk length")]
    Count,
    /// A count that does not end.
    #[error("Protocol error: too big mbulk count string")]
    CountLine,
    /// An argument without `$`.
    #[error("Protocol error: expected '$', got '{0}'")]
    NoBulk(char),
    /// A length that is no number.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// A length that does not end.
    #[error("Protocol error: too big bulk count string")]
    LengthLine,
    /// An argument that is not followed by `\r\n`.
    #[error("Protocol error: no line break behind an argument")]
    NoBreak,
    /// An argument over the limit of values.
    #[error("MER-1002 not_applied: an argument has {bytes} bytes; at most {limit} are allowed")]
    ArgTooLarge {
        /// What was announced.
        bytes: usize,
        /// The limit in force.
        limit: usize,
    },
    /// A command over the limit of requests.
    #[error("MER-0003 not_applied: a command of more than {limit} bytes")]
    CommandTooLarge {
        /// The limit in force.
        limit: usize,
    },
    /// An inline command over the limit.
    #[error("Protocol error: too big inline request")]
    InlineTooLarge,
    /// An inline command whose quotes do not close.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
}

/// A command that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// It has so many arguments.
    Array(usize),
    /// It was typed by hand.
    Inline(Vec<Bytes>),
    /// An empty line or array: nothing to answer.
    Empty,
}

/// Goes over a buffer that grows behind and is cut in front by [`Parser::cut`].
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// Where the command under way starts.
    start: usize,
    /// The next byte to look at.
    at: usize,
    /// Arguments that are still missing; `None` between two commands.
    missing: Option<usize>,
    /// Length of the argument that is being read.
    bulk: Option<usize>,
    /// Arguments of the command under way, and of those before it since the last cut.
    spans: Vec<Range<usize>>,
    /// Spans that belong to commands before the one under way.
    settled: usize,
}

impl Parser {
    /// The next whole command, if the buffer has one.
    ///
    /// # Errors
    /// See [`FrameError`]. The parser is of no use afterwards.
    pub(super) fn next(
        &mut self,
        buf: &[u8],
        limits: &FrameLimits,
    ) -> Result<Option<Frame>, FrameError> {
        let frame = self.step(buf, limits)?;
        if frame.is_some() {
            self.start = self.at;
            self.missing = None;
            self.settled = self.spans.len();
        } else if buf.len() - self.start > limits.command_bytes {
            return Err(FrameError::CommandTooLarge { limit: limits.command_bytes });
        }
        Ok(frame)
    }

    /// How many bytes the whole commands take.
    pub(super) fn whole(&self) -> usize {
        self.start
    }

    /// Hands out the arguments of the whole commands and forgets them: the caller has taken
    /// [`Self::whole`] bytes off the buffer.
    pub(super) fn cut(&mut self, spans: &mut Vec<Range<usize>>) {
        let cut = self.start;
        spans.clear();
        spans.extend(self.spans.drain(..self.settled));
        for span in &mut self.spans {
            *span = span.start - cut..span.end - cut;
        }
        self.at -= cut;
        self.start = 0;
        self.settled = 0;
    }

    fn step(&mut self, buf: &[u8], limits: &FrameLimits) -> Result<Option<Frame>, FrameError> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => match buf.get(self.start) {
                None => return Ok(None),
                Some(b'*') => match self.count(buf, limits)? {
                    None => return Ok(None),
                    Some(0) => return Ok(Some(Frame::Empty)),
                    Some(count) => count,
                },
                Some(_) => return self.inline(buf, limits),
            },
        };
        while missing > 0 {
            self.missing = Some(missing);
            let Some(span) = self.argument(buf, limits)? else { return Ok(None) };
            self.spans.push(span);
            missing -= 1;
        }
        Ok(Some(Frame::Array(self.spans.len() - self.settled)))
    }

    fn count(&mut self, buf: &[u8], limits: &FrameLimits) -> Result<Option<usize>, FrameError> {
        let Some(digits) = self.header(buf, &FrameError::CountLine)? else { return Ok(None) };
        let count = number(&buf[digits]).ok_or(FrameError::Count)?;
        // Redis takes a negative count as nothing.
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if count > limits.args {
            return Err(FrameError::Count);
        }
        Ok(Some(count))
    }

    fn argument(
        &mut self,
        buf: &[u8],
        limits: &FrameLimits,
    ) -> Result<Option<Range<usize>>, FrameError> {
        let length = match self.bulk {
            Some(length) => length,
            None => {
                match buf.get(self.at) {
                    None => return Ok(None),
                    Some(b'$') => {}
                    Some(&other) => return Err(FrameError::NoBulk(printable(other))),
                }
                let Some(digits) = self.header(buf, &FrameError::LengthLine)? else {
                    return Ok(None);
                };
                let length = number(&buf[digits]).ok_or(FrameError::Length)?;
                let bytes = usize::try_from(length).ok().ok_or(FrameError::Length)?;
                if bytes > limits.arg_bytes {
                    return Err(FrameError::ArgTooLarge { bytes, limit: limits.arg_bytes });
                }
                self.bulk = Some(bytes);
                bytes
            }
        };
        let span = self.at..self.at + length;
        let Some(behind) = buf.get(span.end..span.end + 2) else { return Ok(None) };
        if behind != b"\r\n" {
            return Err(FrameError::NoBreak);
        }
        self.at = span.end + 2;
        self.bulk = None;
        Ok(Some(span))
    }

    /// The digits of the header line at `at`, which is then behind it.
    fn header(
        &mut self,
        buf: &[u8],
        endless: &FrameError,
    ) -> Result<Option<Range<usize>>, FrameError> {
        let line = &buf[self.at..buf.len().min(self.at + MAX_HEADER_BYTES)];
        let Some(end) = line.iter().position(|&b| b == b'\r') else {
            return if line.len() == MAX_HEADER_BYTES { Err(endless.clone()) } else { Ok(None) };
        };
        match line.get(end + 1) {
            None if line.len() == MAX_HEADER_BYTES => Err(endless.clone()),
            None => Ok(None),
            Some(b'\n') => {
                let digits = self.at + 1..self.at + end;
                self.at += end + 2;
                Ok(Some(digits))
            }
            Some(_) => Err(endless.clone()),
        }
    }

    fn inline(&mut self, buf: &[u8], limits: &FrameLimits) -> Result<Option<Frame>, FrameError> {
        let Some(end) = buf[self.at..].iter().position(|&b| b == b'\n') else {
            self.at = buf.len();
            if self.at - self.start > limits.inline_bytes {
                return Err(FrameError::InlineTooLarge);
            }
            return Ok(None);
        };
        let end = self.at + end;
        let line = &buf[self.start..end];
        if line.len() > limits.inline_bytes {
            return Err(FrameError::InlineTooLarge);
        }
        self.at = end + 1;
        let words = words(line.strip_suffix(b"\r").unwrap_or(line))?;
        Ok(Some(if words.is_empty() { Frame::Empty } else { Frame::Inline(words) }))
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '?' }
}

/// A number as Redis reads it: no plus, no leading zero, no blanks.
pub(super) fn number(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    digits.iter().try_fold(0i64, |n, &digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        let n = n.checked_mul(10)?;
        if negative { n.checked_sub(digit) } else { n.checked_add(digit) }
    })
}

/// Splits an inline command at blanks; quotes and escapes as in `redis-cli`.
fn words(line: &[u8]) -> Result<Vec<Bytes>, FrameError> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while let Some(&first) = rest.first() {
        let (word, behind) = match first {
            b'"' => double_quoted(&rest[1..])?,
            b'\'' => single_quoted(&rest[1..])?,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        if behind.first().is_some_and(|b| !b.is_ascii_whitespace()) {
            return Err(FrameError::Quotes);
        }
        words.push(word.into());
        rest = behind.trim_ascii_start();
    }
    Ok(words)
}

fn double_quoted(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), FrameError> {
    let mut word = Vec::new();
    loop {
        rest = match rest {
            [b'"', behind @ ..] => return Ok((word, behind)),
            [b'\\', b'x', high, low, behind @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                behind
            }
            [b'\\', escaped, behind @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                behind
            }
            [plain, behind @ ..] => {
                word.push(*plain);
                behind
            }
            [] => return Err(FrameError::Quotes),
        };
    }
}

fn single_quoted(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), FrameError> {
    let mut word = Vec::new();
    loop {
        rest = match rest {
            [b'\'', behind @ ..] => return Ok((word, behind)),
            [b'\\', b'\'', behind @ ..] => {
                word.push(b'\'');
                behind
            }
            [plain, behind @ ..] => {
                word.push(*plain);
                behind
            }
            [] => return Err(FrameError::Quotes),
        };
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
