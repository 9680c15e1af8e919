//! What comes with a request: table, key, level, deadline, id, context, write id.

use std::time::Duration;

use axum::body::Bytes as Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use meridian_service::{CallContext, ErrorCode, Expiry, RequestError, Service};
use meridian_types::{ConsistencyLevel, Millis, TableName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Desk;
use super::problem::{Problem, invalid};
use super::text::{parse_token, percent_decode};
use crate::{clock, codes};

/// The causal context, both ways.
pub(super) const CONTEXT: HeaderName = HeaderName::from_static("meridian-context");
/// The request's id, both ways.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("meridian-request-id");
/// The session, both ways.
pub(super) const SESSION: HeaderName = HeaderName::from_static("meridian-session");
/// What the header says at the beginning of a session, when there is no token yet.
const NEW_SESSION: &[u8] = b"new";
/// The write's id.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request that is refused: by the door, or with an error of the catalogue.
#[derive(Debug)]
pub(super) enum Refusal {
    /// By the door.
    Door(ErrorCode, String),
    /// With the service's error.
    Request(RequestError),
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

/// What follows `?`. A word that is not known is refused: a misspelt level must not be ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    pub(super) consistency: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) ttl: Option<String>,
    pub(super) expires: Option<u64>,
    pub(super) cursor: Option<String>,
    pub(super) limit: Option<usize>,
    pub(super) prefix: Option<String>,
    pub(super) values: Option<bool>,
}

/// What comes with every request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) context: CallContext,
    /// The tokens of the session that the request is part of.
    pub(super) session: Option<Vec<Bytes>>,
    pub(super) consistency: ConsistencyLevel,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    path: String,
}

impl<S: Service> FromRequestParts<Desk<S>> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk<S>) -> Result<Self, Problem> {
        Self::read(parts, desk).map_err(|error| Problem::from(&error))
    }
}

impl Call {
    fn read<S: Service>(parts: &Parts, desk: &Desk<S>) -> Result<Self, RequestError> {
        let query = axum::extract::Query::<Query>::try_from_uri(&parts.uri);
        let query = query.map_err(|why| invalid("query", why.body_text()))?.0;
        let consistency = match &query.consistency {
            None => desk.front.options.default_consistency,
            Some(word) => {
                word.parse().map_err(|why: meridian_types::ParseConsistencyLevelError| {
                    invalid("consistency", why.to_string())
                })?
            }
        };
        let timeout = query.timeout.as_deref().map(|text| duration("timeout", text)).transpose()?;
        let id = header_text(&parts.headers, &REQUEST_ID, "request id")?
            .map(|text| text.parse().map_err(|why| invalid("request id", format!("{why}"))))
            .transpose()?;
        Ok(Self {
            context: desk.front.context(id, timeout),
            session: session(&parts.headers)?,
            consistency,
            query,
            headers: parts.headers.clone(),
            path: parts.uri.path().to_owned(),
        })
    }

    /// Keyspace, table and what follows, of a path that starts with `/v1/` and one more word.
    fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.path.splitn(6, '/').skip(3);
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    /// What stands behind the last slash.
    pub(super) fn last_part(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The table that the path names, and what stands behind a `:` in it.
    pub(super) fn table_and_verb(&self) -> Result<(TableName, Option<&str>), RequestError> {
        let (keyspace, table, _) = self.parts();
        let (table, verb) = match table.split_once(':') {
            Some((table, verb)) => (table, Some(verb)),
            None => (table, None),
        };
        let name = TableName::new(keyspace, table);
        Ok((name.map_err(|why| invalid("table", why.to_string()))?, verb))
    }

    /// The table that the path names.
    pub(super) fn table(&self) -> Result<TableName, RequestError> {
        let (keyspace, table, _) = self.parts();
        TableName::new(keyspace, table).map_err(|why| invalid("table", why.to_string()))
    }

    /// The key that the path names: any bytes, percent-encoded. A slash may stand for itself.
    pub(super) fn key(&self) -> Result<Bytes, RequestError> {
        percent_decode("key", self.parts().2)
    }

    /// What the client has read of the key.
    pub(super) fn causal_context(&self) -> Result<Option<Bytes>, RequestError> {
        let header = self.headers.get(CONTEXT);
        header.map(|value| parse_token("Meridian-Context", value.as_bytes())).transpose()
    }

    /// The write's id.
    pub(super) fn write_id(&self) -> Result<Option<meridian_types::WriteId>, RequestError> {
        let what = "Idempotency-Key";
        let text = header_text(&self.headers, &IDEMPOTENCY_KEY, what)?;
        text.map(|text| text.parse().map_err(|why| invalid(what, format!("a UUID: {why}"))))
            .transpose()
    }

    /// When a value that is written expires.
    pub(super) fn expiry(&self) -> Result<Expiry, RequestError> {
        match (self.query.ttl.as_deref(), self.query.expires) {
            (None, None) => Ok(Expiry::TableDefault),
            (None, Some(millis)) => Ok(Expiry::At(Millis(millis))),
            (Some("never"), None) => Ok(Expiry::Never),
            (Some("keep"), None) => Ok(Expiry::Keep),
            (Some(text), None) => Ok(Expiry::At(after(duration("ttl", text)?))),
            (Some(_), Some(_)) => Err(invalid("ttl", "it contradicts expires".to_owned())),
        }
    }

    /// Whether the client wants JSON.
    pub(super) fn wants_json(&self) -> bool {
        let accepted = self.headers.get_all(axum::http::header::ACCEPT).iter();
        accepted.filter_map(|value| value.to_str().ok()).any(|v| v.contains("application/json"))
    }
}

/// The time that is `ttl` from now.
pub(super) fn after(ttl: Duration) -> Millis {
    clock::now().plus(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

/// The session's tokens: one a header, or several with commas between them.
fn session(headers: &HeaderMap) -> Result<Option<Vec<Bytes>>, RequestError> {
    let mut tokens = None;
    for value in headers.get_all(&SESSION) {
        let tokens = tokens.get_or_insert_with(Vec::new);
        for text in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if !text.is_empty() && text != NEW_SESSION {
                tokens.push(parse_token("Meridian-Session", text)?);
            }
        }
    }
    Ok(tokens)
}

fn header_text<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    what: &'static str,
) -> Result<Option<&'h str>, RequestError> {
    let read = |value: &'h axum::http::HeaderValue| value.to_str();
    let text = headers.get(name).map(read).transpose();
    text.map_err(|why| invalid(what, why.to_string()))
}

/// A number and a unit: `500ms`, `2s`, `1.5s` is not one.
pub(super) fn duration(what: &'static str, text: &str) -> Result<Duration, RequestError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits);
    let bad = || invalid(what, format!("`{text}`; write it like 500ms, 2s, 10m, 1h or 7d"));
    let n: u64 = digits.parse().ok().ok_or_else(bad)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    let millis = n.checked_mul(millis).filter(|&millis| millis > 0).ok_or_else(bad)?;
    Ok(Duration::from_millis(millis))
}

/// A JSON body. Fields that are not known are refused by the types themselves.
pub(super) fn json<T: DeserializeOwned>(body: &Body) -> Result<T, Refusal> {
    let refused = |why: serde_json::Error| {
        Refusal::Door(codes::MALFORMED, format!("the body is not as expected: {why}"))
    };
    serde_json::from_slice(body).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("t", "500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("t", "7d").unwrap(), Duration::from_secs(7 * 86_400));
        for bad in ["", "5", "ms", "-1s", "1.5s", "0s", "99999999999999999999s", "5 s"] {
            assert!(duration("t", bad).is_err(), "{bad}");
        }
        assert!(duration("t", &format!("{}d", u64::MAX)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_is_read_or_refused(text in ".{0,40}", bytes: Vec<u8>) {
            let _ = duration("t", &text);
            let _ = percent_decode("t", &text);
            let _ = parse_token("t", &bytes);
            let _ = json::<serde_json::Value>(&bytes.into());
        }
    }
}
