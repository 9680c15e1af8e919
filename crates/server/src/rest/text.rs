//! Bytes as text: in paths, headers and JSON.

use axum::http::HeaderValue;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use meridian_service::RequestError;
use serde::{Deserialize, Serialize};

use super::problem::invalid;

/// Contexts and cursors: written without padding, read with or without.
const TOKENS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes in JSON: text where they are UTF-8, `{"base64": "..."}` otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum JsonBytes {
    /// As text.
    Text(String),
    /// As base64.
    Binary(Base64),
}

/// See [`JsonBytes`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Base64 {
    base64: String,
}

impl From<&[u8]> for JsonBytes {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Binary(Base64 { base64: STANDARD.encode(bytes) }),
        }
    }
}

impl JsonBytes {
    /// The bytes.
    pub(super) fn into_bytes(self, what: &'static str) -> Result<Bytes, RequestError> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Binary(Base64 { base64 }) => {
                let decoded = STANDARD.decode(base64);
                decoded.map(Into::into).map_err(|why| invalid(what, format!("base64: {why}")))
            }
        }
    }
}

/// A context or a cursor as a header and in JSON.
pub(super) fn token(bytes: &[u8]) -> String {
    TOKENS.encode(bytes)
}

/// The bytes of a context or a cursor.
pub(super) fn parse_token(what: &'static str, text: &[u8]) -> Result<Bytes, RequestError> {
    let decoded = TOKENS.decode(text);
    decoded.map(Into::into).map_err(|why| invalid(what, format!("base64url: {why}")))
}

/// A context as a header.
pub(super) fn token_header(bytes: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_str(&token(bytes)).ok()
}

/// The bytes behind `%xx`. A path is not a form: `+` is a plus.
pub(super) fn percent_decode(what: &'static str, text: &str) -> Result<Bytes, RequestError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(invalid(what, "a % is not followed by two hexadecimal digits".to_owned()));
        };
        out.push(u8::try_from(high << 4 | low).unwrap_or_default());
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_json_and_paths() {
        for bytes in [&b"text"[..], b"", b"\xff\x00", "ü".as_bytes()] {
            let json = serde_json::to_string(&JsonBytes::from(bytes)).unwrap();
            let back: JsonBytes = serde_json::from_str(&json).unwrap();
            assert_eq!(back.into_bytes("key").unwrap(), bytes);
            let path: String = bytes.iter().map(|b| format!("%{b:02x}")).collect();
            assert_eq!(percent_decode("key", &path).unwrap(), bytes);
        }
        assert_eq!(percent_decode("key", "a/b+c").unwrap(), "a/b+c");
        for bad in ["%", "%4", "%zz", "a%"] {
            assert!(percent_decode("key", bad).is_err());
        }
        assert!(serde_json::from_str::<JsonBytes>("{\"base64\":\"\",\"x\":1}").is_err());
    }
}
