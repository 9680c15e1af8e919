//! Batches in flight: bounded, retried with the same write ids, and counted.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use indicatif::ProgressBar;
use meridian_service::{Batch, Expiry, Outcome, PutItem, PutOutcome, Request, RequestError};
use meridian_types::{ConsistencyLevel, TableName, WriteId};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::read::{Failed, Piece, Row};
use crate::cli::connect::Session;
use crate::cli::kv::new_write_id;
use crate::cli::output::{Failure, request_error_line};

/// How often a batch is tried in all.
const ATTEMPTS: u32 = 6;

/// Wait before the first retry; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(50);

/// What an import did.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Rows that were stored.
    pub(super) rows: u64,
    /// Bytes of the input that were read.
    pub(super) bytes: u64,
    /// Rows that were not.
    pub(super) failed: Vec<Failed>,
}

pub(super) struct Loader<'a> {
    pub(super) session: &'a Session,
    pub(super) table: &'a TableName,
    pub(super) level: ConsistencyLevel,
    pub(super) in_flight: usize,
    pub(super) bar: &'a ProgressBar,
}

/// What became of a batch.
struct Stored {
    rows: u64,
    bytes: u64,
    failed: Vec<Failed>,
    /// No node answers any more: no other batch would fare better.
    stopped: Option<Failure>,
}

/// A row on its way.
struct Sending {
    line: u64,
    key: Bytes,
    value: Bytes,
    write_id: WriteId,
}

impl Loader<'_> {
    /// Stores all pieces; what was done, and why it was not all if it stopped.
    pub(super) async fn load(
        &self,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> (Summary, Option<Failure>) {
        let mut summary = Summary::default();
        let mut flying = FuturesUnordered::new();
        let mut more = true;
        while more || !flying.is_empty() {
            let stored: Stored = tokio::select! {
                piece = pieces.recv(), if more && flying.len() < self.in_flight => {
                    match piece {
                        Some(piece) => flying.push(self.store(piece)),
                        None => more = false,
                    }
                    continue;
                }
                Some(stored) = flying.next() => stored,
            };
            summary.rows += stored.rows;
            summary.bytes += stored.bytes;
            summary.failed.extend(stored.failed);
            self.bar.set_position(summary.bytes);
            let (rows, errors) = (summary.rows, summary.failed.len());
            self.bar.set_message(format!("{rows} rows, {errors} errors"));
            if stored.stopped.is_some() {
                // Batches under way are abandoned; running the import again stores them once more.
                return (summary, stored.stopped);
            }
        }
        (summary, None)
    }

    async fn store(&self, piece: Piece) -> Stored {
        let Piece { rows, failed, bytes } = piece;
        let mut stored = Stored { rows: 0, bytes, failed, stopped: None };
        let with_id = |row: Row| {
            let Row { line, key, value } = row;
            Sending { line, key, value, write_id: new_write_id() }
        };
        let mut left: Vec<Sending> = rows.into_iter().map(with_id).collect();
        for attempt in 1..=ATTEMPTS {
            if left.is_empty() {
                break;
            }
            let last = attempt == ATTEMPTS;
            match self.send(&left).await {
                Ok(results) => {
                    let outcomes = left.into_iter().zip(results);
                    left = keep_retryable(outcomes, last, &mut stored);
                }
                Err(Failure::Request(error)) if last || !error.is_retryable() => {
                    let why = request_error_line(&error);
                    let lost =
                        left.drain(..).map(|row| Failed { line: row.line, why: why.clone() });
                    stored.failed.extend(lost);
                }
                Err(Failure::Request(_)) => {}
                Err(failure) if last => {
                    stored.stopped = Some(failure);
                    return stored;
                }
                Err(_) => {}
            }
            if !left.is_empty() {
                sleep(BACKOFF * 2u32.pow(attempt - 1)).await;
            }
        }
        stored
    }

    async fn send(
        &self,
        rows: &[Sending],
    ) -> Result<Vec<Result<PutOutcome, RequestError>>, Failure> {
        let item = |row: &Sending| PutItem {
            key: row.key.clone(),
            value: Some(row.value.clone()),
            expiry: Expiry::TableDefault,
            context: None,
            write_id: Some(row.write_id),
        };
        let items: Vec<PutItem> = rows.iter().map(item).collect();
        let count = items.len();
        let table = self.table.clone();
        let request = Request::Batch(Batch { table, items, consistency: self.level });
        let picked = self.session.ask(request, |outcome| match outcome {
            Outcome::Batch(batch) if batch.results.len() == count => Some(batch.results),
            _ => None,
        });
        picked.await
    }
}

/// Counts what is decided; what may still succeed is returned.
fn keep_retryable(
    outcomes: impl Iterator<Item = (Sending, Result<PutOutcome, RequestError>)>,
    last: bool,
    stored: &mut Stored,
) -> Vec<Sending> {
    let mut left = Vec::new();
    for (row, result) in outcomes {
        match result {
            Ok(_) => stored.rows += 1,
            Err(error) if error.is_retryable() && !last => left.push(row),
            Err(error) => {
                let why = request_error_line(&error);
                stored.failed.push(Failed { line: row.line, why });
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(line: u64) -> Sending {
        Sending { line, key: Bytes::new(), value: Bytes::new(), write_id: new_write_id() }
    }

    #[test]
    fn only_what_may_succeed_later_is_tried_again() {
        let outcomes = || {
            [
                (sending(1), Ok(PutOutcome::default())),
                (sending(2), Err(RequestError::Stopping)),
                (sending(3), Err(RequestError::Siblings { count: 2 })),
            ]
        };
        let mut stored = Stored { rows: 0, bytes: 0, failed: Vec::new(), stopped: None };
        let left = keep_retryable(outcomes().into_iter(), false, &mut stored);
        assert_eq!(left.iter().map(|row| row.line).collect::<Vec<_>>(), [2]);
        assert_eq!((stored.rows, stored.failed.len(), stored.failed[0].line), (1, 1, 3));
        let left = keep_retryable(outcomes().into_iter(), true, &mut stored);
        assert!(left.is_empty());
        assert_eq!((stored.rows, stored.failed.len()), (2, 3));
        assert!(stored.failed[1].why.contains("MER-2005 stopping, not_applied"));
    }
}
