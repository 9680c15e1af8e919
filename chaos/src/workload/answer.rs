//! What nodes answer, in the words of the checks.

use bytes::Bytes;
use meridian_crdt::{Context, ContextToken, TokenScope};
use meridian_service::{GetOutcome, Outcome, PutOutcome, ReadValue, RequestError};

use super::words::{Doing, Token};
use crate::history::{Answer, Failure, Key, ReadAnswer, Seen, WriteAnswer, WriteName};
use crate::world::Cluster;

/// An answer in the words of the checks, and the tokens that came with it.
pub(super) struct Said {
    pub(super) answer: Answer,
    pub(super) tokens: Vec<(Key, Token)>,
    /// Where the next page starts.
    pub(super) next: Option<Bytes>,
    /// Whether the same may succeed when it is tried again.
    pub(super) retryable: bool,
}

/// Reads answers.
pub(super) struct Reader<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) tokens: Vec<(Key, Token)>,
}

impl Reader<'_> {
    pub(super) fn read(mut self, doing: &Doing, answer: Result<Outcome, RequestError>) -> Said {
        let mut next = None;
        let mut retryable = false;
        let answer = match (doing, answer) {
            (_, Err(error)) => {
                retryable = error.is_retryable();
                Answer::Failed(failure(&error))
            }
            (Doing::Write(wanted), Ok(Outcome::Put(outcome))) => {
                Answer::Written(vec![self.written(wanted.key, outcome)])
            }
            (Doing::WriteMany(wanted) | Doing::WriteAtomic(wanted), Ok(Outcome::Batch(batch))) => {
                retryable =
                    batch.results.iter().flat_map(|r| r.as_ref().err()).any(|e| e.is_retryable());
                let results = wanted.iter().zip(batch.results);
                let one = |(wanted, result): (&super::words::Wanted, _)| match result {
                    Ok(outcome) => self.written(wanted.key, outcome),
                    Err(error) => WriteAnswer::Failed(failure(&error)),
                };
                Answer::Written(results.map(one).collect())
            }
            (Doing::Get(key), Ok(Outcome::Got(outcome))) => {
                Answer::Read(vec![self.got(*key, Ok(outcome))])
            }
            (Doing::GetMany(keys), Ok(Outcome::MultiGot(results))) => {
                let results = keys.iter().zip(results);
                Answer::Read(results.map(|(key, result)| self.got(*key, result)).collect())
            }
            (Doing::Scan { table, .. }, Ok(Outcome::Page(page))) => {
                next = page.next;
                let rows = page.rows.iter().filter_map(|row| {
                    let key = Key::parse(*table, &row.key)?;
                    Some(ReadAnswer { key, result: Ok(seen(&row.values, None)) })
                });
                Answer::Read(rows.collect())
            }
            // An answer of another kind is one that no client can use.
            (_, Ok(_)) => Answer::Read(Vec::new()),
        };
        Said { answer, tokens: self.tokens, next, retryable }
    }

    fn written(&mut self, key: Key, outcome: PutOutcome) -> WriteAnswer {
        let PutOutcome { applied, context, stamp, .. } = outcome;
        WriteAnswer::Done { applied, stamp, context: self.open(key, context) }
    }

    fn got(&mut self, key: Key, result: Result<GetOutcome, RequestError>) -> ReadAnswer {
        let result = match result {
            Ok(outcome) => Ok(seen(&outcome.values, self.open(key, outcome.context))),
            Err(error) => Err(failure(&error)),
        };
        ReadAnswer { key, result }
    }

    /// What a token is; one that does not open counts as none, and is of no use to its client.
    fn open(&mut self, key: Key, sealed: Option<Bytes>) -> Option<Context> {
        let (sealed, bytes) = (sealed?, key.to_bytes());
        let scope = TokenScope { table: key.table, key: &bytes };
        let context = ContextToken::open(&self.cluster.token_key, scope, &sealed).ok()?;
        self.tokens.push((key, Token { sealed, context: context.clone() }));
        Some(context)
    }
}

fn seen(values: &[ReadValue], context: Option<Context>) -> Seen {
    let named = |value: &ReadValue| Some((WriteName::of_value(&value.value)?, value.stamp));
    let names: Vec<_> = values.iter().filter_map(named).collect();
    let foreign = values.len() - names.len();
    Seen { values: names, foreign, context }
}

fn failure(error: &RequestError) -> Failure {
    Failure { effect: error.effect(), code: error.code().name }
}
