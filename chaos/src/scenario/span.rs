//! Times as people write them: `12s`, `400ms`, `50us`, `2m`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::sim::Micros;

/// The units, longest first, in microseconds.
const UNITS: [(&str, u64); 4] = [("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// The longest time that can be written: a thousand days, so that sums of a few stay far from the
/// end of the numbers.
const LONGEST: Micros = Micros::from_secs(1_000 * 86_400);

/// A text that is no time. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no time; it must be a whole number and its unit, as 12s, 400ms, 50us or 2m, and at most {LONGEST}"
)]
pub struct SpanError {
    text: String,
}

impl FromStr for Micros {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError { text: text.to_owned() };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.strip_prefix(digits).ok_or_else(wrong)?;
        let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = digits.parse().map_err(|_no_number| wrong())?;
        let span = Self(number.checked_mul(*micros).ok_or_else(wrong)?);
        if span > LONGEST || digits.starts_with('+') { Err(wrong()) } else { Ok(span) }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let exact = UNITS.iter().find(|(_, micros)| self.0.is_multiple_of(*micros));
        let (unit, micros) = exact.copied().unwrap_or(("us", 1));
        write!(f, "{}{unit}", self.0 / micros)
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_are_written() {
        for (text, micros) in [
            ("0s", 0),
            ("50us", 50),
            ("400ms", 400_000),
            ("12s", 12_000_000),
            ("12500ms", 12_500_000),
            ("2m", 120_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Micros(micros)));
            assert_eq!(Micros(micros).to_string(), text);
        }
        assert_eq!("120s".parse::<Micros>().unwrap().to_string(), "2m");
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in
            ["", "s", "12", "1.5s", "-1s", "+1s", "1 s", "1h", "99999999999999999999s", "2000000m"]
        {
            assert!(text.parse::<Micros>().is_err(), "{text}");
        }
    }
}
