//! Bytes, values, stamps and contexts as people and programs read them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use meridian_service::ReadValue;
use meridian_types::Millis;
use serde_json::{Map, Value, json};

use super::output::Failure;

/// Bytes for people: text as it is, anything else escaped.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => {
            text.to_owned()
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

/// Bytes for programs: `{name: "text"}`, or `{name_base64: "..."}` where they are no text.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), Value::from(text)),
        Err(_) => object.insert(format!("{name}_base64"), Value::from(STANDARD.encode(bytes))),
    };
}

/// Values for programs.
pub(crate) fn values(values: &[ReadValue]) -> Vec<Value> {
    let one = |read: &ReadValue| {
        let mut object = Map::new();
        put_bytes(&mut object, "value", &read.value);
        object.insert("stamp".to_owned(), Value::from(read.stamp.to_string()));
        object.insert("written".to_owned(), Value::from(time(read.stamp.millis())));
        object.insert("expires".to_owned(), json!(read.expires.map(time)));
        Value::from(object)
    };
    values.iter().map(one).collect()
}

/// When a value was written, and when it goes, for people.
pub(crate) fn when(read: &ReadValue) -> String {
    let written = time(read.stamp.millis());
    match read.expires {
        Some(expires) => format!("written {written}, expires {}", time(expires)),
        None => format!("written {written}"),
    }
}

/// A context as commands print and take it.
pub(crate) fn context(sealed: &Bytes) -> String {
    URL_SAFE_NO_PAD.encode(sealed)
}

/// A context as it was printed. An empty one, or `null` (of a key that was read without), is none.
pub(crate) fn parse_context(text: &str) -> Result<Option<Bytes>, Failure> {
    if text.is_empty() || text == "null" {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| {
        Failure::No(format!("--context is no context as `meridian get` prints it: {error}"))
    })?;
    Ok(Some(Bytes::from(bytes)))
}

/// `2026-11-22T21:00:00.123Z`.
pub(crate) fn time(millis: Millis) -> String {
    let (seconds, milli) = (millis.0 / 1_000, millis.0 % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        // As `date -u -d @N` says.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_381_265, "2026-11-22T21:01:05.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        ] {
            assert_eq!(time(Millis(seconds * 1_000)), expected);
        }
    }

    #[test]
    fn bytes_that_are_no_text_survive_both_ways() {
        assert_eq!(text("grüezi".as_bytes()), "grüezi");
        assert_eq!(text(b"\xff\x00a"), "\\xff\\x00a");
        let mut object = Map::new();
        put_bytes(&mut object, "value", b"\xff");
        put_bytes(&mut object, "key", b"k");
        assert_eq!(Value::from(object), json!({ "value_base64": "/w==", "key": "k" }));
    }

    #[test]
    fn contexts_read_back_as_they_were_printed() {
        let sealed = Bytes::from_static(b"\x00\xfe\xff sealed");
        assert_eq!(parse_context(&context(&sealed)).unwrap(), Some(sealed));
        assert_eq!(parse_context("").unwrap(), None);
        assert_eq!(parse_context("null").unwrap(), None);
        assert!(parse_context("no context!").is_err());
    }
}
