//! Siblings as they are: `300 Multiple Choices` with one part for each.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, BytesMut};
use meridian_service::ReadValue;
use uuid::Uuid;

use super::kv::value_headers;

/// A boundary that is in none of the values.
fn boundary(values: &[ReadValue]) -> String {
    loop {
        let boundary = Uuid::now_v7().simple().to_string();
        let inside = |value: &ReadValue| {
            value.value.windows(boundary.len()).any(|window| window == boundary.as_bytes())
        };
        if !values.iter().any(inside) {
            return boundary;
        }
    }
}

/// Each value with its own headers, by dot.
pub(super) fn siblings(values: &[ReadValue]) -> Response {
    let boundary = boundary(values);
    let mut body = BytesMut::new();
    for value in values {
        body.put_slice(format!("--{boundary}\r\n").as_bytes());
        body.put_slice(b"content-type: application/octet-stream\r\n");
        for (name, text) in &value_headers(value) {
            body.put_slice(name.as_str().as_bytes());
            body.put_slice(b": ");
            body.put_slice(text.as_bytes());
            body.put_slice(b"\r\n");
        }
        body.put_slice(b"\r\n");
        body.put_slice(&value.value);
        body.put_slice(b"\r\n");
    }
    body.put_slice(format!("--{boundary}--\r\n").as_bytes());
    let kind = format!("multipart/mixed; boundary={boundary}");
    let headers = [(header::CONTENT_TYPE, kind)];
    (StatusCode::MULTIPLE_CHOICES, headers, body.freeze()).into_response()
}
