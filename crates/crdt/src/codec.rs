//! Canonical bytes of clocks, contexts, rows and deltas: equal states, equal bytes.
//!
//! `docs/formats/rows.md` describes them. Golden tests guard them.

use bytes::Bytes;
use meridian_types::varint::{DecodeError, Reader, put_bytes, put_u64};
use meridian_types::{Hlc, Millis};

use crate::{Context, Delta, Dot, DotSet, Entry, Row, VnodeClock};

/// Version of the bytes of clocks and contexts.
const DOTS_VERSION: u8 = 1;
/// Version of the bytes of rows, in the low four bits of the first byte.
const ROW_VERSION: u8 = 1;
const VERSION_BITS: u8 = 0x0f;
/// Set in a row's first byte: exactly one entry. No count follows, the entry's flags are in the
/// first byte as well, and its value runs to the end of the buffer.
const ROW_SINGLE: u8 = 0x10;
/// Set in a row's first byte: a context follows it.
const ROW_CONTEXT: u8 = 0x20;
/// How far the flags of a single entry are shifted up in the row's first byte.
const SINGLE_FLAGS_SHIFT: u32 = 6;

/// The entry has no value.
const ENTRY_MARKER: u8 = 0x01;
/// An expiry follows the stamp.
const ENTRY_EXPIRES: u8 = 0x02;
const ENTRY_FLAGS: u8 = ENTRY_MARKER | ENTRY_EXPIRES;

/// Fewest bytes of an encoded entry: flags, dot, stamp, length of the value.
const ENTRY_MIN_BYTES: usize = 1 + 10 + 8 + 1;

impl VnodeClock {
    /// The clock's canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        dots_to_bytes(&self.seen)
    }

    /// Reads a clock back.
    ///
    /// # Errors
    /// Bytes that no clock encodes to.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { seen: dots_from_bytes(bytes, "vnode clock")? })
    }
}

impl Context {
    /// The context's canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        dots_to_bytes(&self.seen)
    }

    /// Reads a context back.
    ///
    /// # Errors
    /// Bytes that no context encodes to.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { seen: dots_from_bytes(bytes, "context")? })
    }
}

impl DotSet {
    /// The set's canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        dots_to_bytes(self)
    }

    /// Reads a set back.
    ///
    /// # Errors
    /// Bytes that no set encodes to.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        dots_from_bytes(bytes, "set of dots")
    }
}

fn dots_to_bytes(dots: &DotSet) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + dots.encoded_len_hint());
    out.push(DOTS_VERSION);
    dots.encode(&mut out);
    out
}

fn dots_from_bytes(bytes: &[u8], what: &'static str) -> Result<DotSet, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8(what)?;
    if version != DOTS_VERSION {
        return Err(DecodeError::UnknownVersion { what, version });
    }
    let dots = DotSet::decode(&mut reader)?;
    reader.finish()?;
    Ok(dots)
}

impl Row {
    /// The row's canonical bytes.
    ///
    /// A row with one entry and no context costs at most 32 bytes beyond its value, for node ids
    /// below 2^21, counters below 2^42 and expiry in this century; 42 at the ends of the types.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        parts_to_bytes(self.entries(), self.context())
    }

    /// Appends the row's canonical bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_parts(self.entries(), self.context(), out);
    }

    /// Reads a row back. Values are views into `bytes`.
    ///
    /// # Errors
    /// Bytes that no row encodes to.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header = reader.u8("row header")?;
        if header & VERSION_BITS != ROW_VERSION {
            let version = header & VERSION_BITS;
            return Err(DecodeError::UnknownVersion { what: "row", version });
        }
        let flags = header >> SINGLE_FLAGS_SHIFT;
        if header & ROW_SINGLE == 0 && flags != 0 {
            return Err(DecodeError::Invalid { at: 0, what: "row header" });
        }
        let context = decode_context(header, &mut reader)?;
        if header & ROW_SINGLE != 0 {
            let entry = decode_entry_head(flags, &mut reader)?;
            let value = bytes.slice(reader.position()..);
            return Ok(Self::of_one(with_value(entry, flags, value, &reader)?, context));
        }
        let entries = decode_entries(bytes, &mut reader)?;
        reader.finish()?;
        Ok(Self::new(entries, context))
    }
}

fn parts_to_bytes(entries: &[Entry], context: &Context) -> Vec<u8> {
    let values: usize =
        entries.iter().map(|entry| 40 + entry.value.as_ref().map_or(0, Bytes::len)).sum();
    let mut out = Vec::with_capacity(8 + values + context.seen.encoded_len_hint());
    encode_parts(entries, context, &mut out);
    out
}

fn encode_parts(entries: &[Entry], context: &Context, out: &mut Vec<u8>) {
    let mut header = ROW_VERSION;
    if !context.is_empty() {
        header |= ROW_CONTEXT;
    }
    if let [entry] = entries {
        header |= ROW_SINGLE | flags_of(entry) << SINGLE_FLAGS_SHIFT;
    }
    out.push(header);
    if !context.is_empty() {
        context.seen.encode(out);
    }
    if let [entry] = entries {
        encode_entry_head(entry, out);
        out.extend_from_slice(entry.value.as_deref().unwrap_or_default());
        return;
    }
    put_u64(out, entries.len() as u64);
    for entry in entries {
        out.push(flags_of(entry));
        encode_entry_head(entry, out);
        put_bytes(out, entry.value.as_deref().unwrap_or_default());
    }
}

fn decode_context(header: u8, reader: &mut Reader<'_>) -> Result<Context, DecodeError> {
    if header & ROW_CONTEXT == 0 {
        return Ok(Context::default());
    }
    let seen = DotSet::decode(reader)?;
    if seen.is_empty() {
        return Err(reader.invalid("context of a row"));
    }
    Ok(Context { seen })
}

fn decode_entries(bytes: &Bytes, reader: &mut Reader<'_>) -> Result<Vec<Entry>, DecodeError> {
    let count = reader.count(ENTRY_MIN_BYTES, "number of entries")?;
    if count == 1 {
        return Err(reader.invalid("number of entries"));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    for _ in 0..count {
        let flags = reader.u8("flags of an entry")?;
        if flags & !ENTRY_FLAGS != 0 {
            return Err(reader.invalid("flags of an entry"));
        }
        let entry = decode_entry_head(flags, reader)?;
        let value = reader.shared_bytes(bytes, "value")?;
        if entries.last().is_some_and(|last| last.dot >= entry.dot) {
            return Err(reader.invalid("order of entries"));
        }
        entries.push(with_value(entry, flags, value, reader)?);
    }
    Ok(entries)
}

fn flags_of(entry: &Entry) -> u8 {
    let marker = if entry.value.is_none() { ENTRY_MARKER } else { 0 };
    let expires = if entry.expires.is_some() { ENTRY_EXPIRES } else { 0 };
    marker | expires
}

fn encode_entry_head(entry: &Entry, out: &mut Vec<u8>) {
    entry.dot.encode(out);
    out.extend_from_slice(&entry.stamp.0.to_be_bytes());
    if let Some(at) = entry.expires {
        put_u64(out, at.0);
    }
}

/// The entry without its value.
fn decode_entry_head(flags: u8, reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    let dot = Dot::decode(reader)?;
    let stamp = Hlc(reader.fixed_u64("stamp of an entry")?);
    let expires = match flags & ENTRY_EXPIRES {
        0 => None,
        _ => Some(Millis(reader.u64("expiry of an entry")?)),
    };
    Ok(Entry { dot, stamp, expires, value: None })
}

fn with_value(
    entry: Entry,
    flags: u8,
    value: Bytes,
    reader: &Reader<'_>,
) -> Result<Entry, DecodeError> {
    if flags & ENTRY_MARKER == 0 {
        return Ok(Entry { value: Some(value), ..entry });
    }
    if !value.is_empty() {
        return Err(reader.invalid("value of a marker"));
    }
    Ok(entry)
}

impl Delta {
    /// The delta's canonical bytes: those of the row that it is.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        parts_to_bytes(std::slice::from_ref(&self.entry), &self.context)
    }

    /// Reads a delta back. The value is a view into `bytes`.
    ///
    /// # Errors
    /// Bytes that no delta encodes to.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        let (mut entries, context) = Row::from_bytes(bytes)?.into_parts();
        match (entries.pop(), entries.is_empty()) {
            (Some(entry), true) => Ok(Self { entry, context }),
            _ => Err(DecodeError::Invalid { at: 0, what: "number of entries of a delta" }),
        }
    }
}
