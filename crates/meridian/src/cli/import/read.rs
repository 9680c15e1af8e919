//! From JSON lines to batches of rows, within bounds.

use std::io::{self, BufRead};

use bytes::Bytes;
use meridian_types::Limits;
use serde_json::Value;

/// Most bytes of the rows of one batch, so that large rows make small batches.
const BATCH_BYTES: usize = 1 << 20;

/// A line that becomes a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// From 1.
    pub(super) line: u64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// A line that does not, or a row that was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) line: u64,
    pub(super) why: String,
}

/// What was read since the last piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) rows: Vec<Row>,
    pub(super) failed: Vec<Failed>,
    /// Bytes of the input.
    pub(super) bytes: u64,
}

pub(super) struct Reader<R> {
    input: R,
    field: String,
    batch: usize,
    limits: Limits,
    line: u64,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R, field: &str, batch: usize) -> Self {
        let field = field.to_owned();
        Self { input, field, batch, limits: Limits::DEFAULT, line: 0, ended: false }
    }

    /// The next batch; `None` after the last.
    pub(super) fn next_piece(&mut self) -> Option<Piece> {
        let (mut piece, mut size) = (Piece::default(), 0);
        while !self.ended
            && piece.rows.len() + piece.failed.len() < self.batch
            && size < BATCH_BYTES
        {
            let line = match self.next_line() {
                Ok(Some((line, bytes))) => {
                    piece.bytes += bytes;
                    line
                }
                Ok(None) => break,
                Err(error) => {
                    self.ended = true;
                    let why = format!("the input cannot be read further: {error}");
                    piece.failed.push(Failed { line: self.line, why });
                    break;
                }
            };
            if line.as_ref().is_some_and(|line| line.trim_ascii().is_empty()) {
                continue;
            }
            match self.row(line) {
                Ok(row) => {
                    size += row.key.len() + row.value.len();
                    piece.rows.push(row);
                }
                Err(why) => piece.failed.push(Failed { line: self.line, why }),
            }
        }
        let empty = piece.rows.is_empty() && piece.failed.is_empty();
        (!empty).then_some(piece)
    }

    /// The next line, without its end, and the bytes that it took; the line is `None` when it is
    /// longer than any value may be, and was skipped.
    fn next_line(&mut self) -> io::Result<Option<(Option<Vec<u8>>, u64)>> {
        let (mut line, mut taken, mut too_long) = (Vec::new(), 0, false);
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                self.ended = true;
                break;
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            too_long |= line.len() + part.len() > self.limits.value_bytes;
            if !too_long {
                line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            taken += used as u64;
            if end.is_some() {
                break;
            }
        }
        if taken == 0 {
            return Ok(None);
        }
        self.line += 1;
        Ok(Some(((!too_long).then_some(line), taken)))
    }

    fn row(&self, line: Option<Vec<u8>>) -> Result<Row, String> {
        let Some(line) = line else {
            return Err(format!("longer than {} bytes", self.limits.value_bytes));
        };
        let text = line.trim_ascii();
        let object: Value =
            serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
        let key = match object.get(&self.field) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(_) => return Err(format!("`{}` is neither a text nor a number", self.field)),
            None => return Err(format!("there is no field `{}`", self.field)),
        };
        self.limits.check_key(key.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Row { line: self.line, key: Bytes::from(key), value: Bytes::copy_from_slice(text) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8], batch: usize) -> Vec<Piece> {
        let mut reader = Reader::new(io::BufReader::with_capacity(7, text), "id", batch);
        std::iter::from_fn(|| reader.next_piece()).collect()
    }

    #[test]
    fn keys_are_texts_or_numbers_and_the_line_is_the_value() {
        let pieces = all("{\"id\": 7}\r\n\n  {\"id\":\"ü\",\"n\":1}".as_bytes(), 10);
        let row = |line, key: &str, value: &str| Row {
            line,
            key: Bytes::from(key.to_owned()),
            value: Bytes::from(value.to_owned()),
        };
        let rows = vec![row(1, "7", "{\"id\": 7}"), row(3, "ü", "{\"id\":\"ü\",\"n\":1}")];
        assert_eq!(pieces, [Piece { rows, failed: Vec::new(), bytes: 31 }]);
    }

    #[test]
    fn what_is_no_row_is_listed_with_its_line() {
        let text = b"{\"id\":1}\nnot json\n{\"n\":1}\n{\"id\":true}\n{\"id\":\"\"}\n{\"id\":2}\n";
        let pieces = all(text, 100);
        let failed: Vec<String> =
            pieces[0].failed.iter().map(|f| format!("{}: {}", f.line, f.why)).collect();
        assert_eq!(
            failed,
            [
                "2: no JSON: expected ident at line 1 column 2",
                "3: there is no field `id`",
                "4: `id` is neither a text nor a number",
                "5: the key is empty; keys have at least one byte",
            ]
        );
        assert_eq!(pieces[0].rows.len(), 2);
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_a_value() {
        let mut text = vec![b'x'; Limits::DEFAULT.value_bytes + 1];
        text.extend_from_slice(b"\n{\"id\":1}\n");
        let pieces = all(&text, 100);
        assert_eq!(pieces[0].failed[0].why, "longer than 8388608 bytes");
        assert_eq!(pieces[0].rows[0].line, 2);
    }

    proptest! {
        #[test]
        fn every_line_is_a_row_a_failure_or_blank(
            lines in prop::collection::vec("(\\{\"id\":[0-9]{1,3}\\})|[a-z{}\"]{0,5}", 0..40),
            batch in 1usize..10,
        ) {
            let text = lines.join("\n");
            let pieces = all(text.as_bytes(), batch);
            let mut seen: Vec<u64> = Vec::new();
            for piece in &pieces {
                prop_assert!(piece.rows.len() + piece.failed.len() <= batch);
                seen.extend(piece.rows.iter().map(|row| row.line));
                seen.extend(piece.failed.iter().map(|failed| failed.line));
            }
            seen.sort_unstable();
            let expected: Vec<u64> = (1u64..)
                .zip(&lines)
                .filter(|(_, line)| !line.is_empty())
                .map(|(n, _)| n)
                .collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
