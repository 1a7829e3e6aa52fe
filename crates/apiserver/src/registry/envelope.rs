//! The form in which an object lies in the store.
//!
//! | bytes | content |
//! |---|---|
//! | 0 | format: 1 |
//! | 1–4 | schema version of the kind when it was written, big endian |
//! | 5–8 | id of the key that the rest is encrypted with; 0: not encrypted |
//! | 9–12 | offset in the JSON of the first byte inside `metadata`, big endian |
//! | 13– | JSON, without `metadata.resourceVersion` |
//!
//! The JSON begins `{"kind":…,"apiVersion":…,"metadata":{`, so that readers put the
//! resourceVersion (the store's revision, unknown at writing) in its place, and another
//! apiVersion in front, without parsing.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

/// The only format so far.
const FORMAT_JSON: u8 = 1;
/// Bytes before the JSON.
const HEADER_BYTES: usize = 13;

/// Why a stored value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    /// Shorter than a header, or its offset points outside.
    #[error("the stored value is truncated")]
    Truncated,
    /// Written by a later version.
    #[error("the stored value has format {0}, which this version does not know")]
    Format(u8),
    /// Encrypted with a key that is not here.
    #[error("the stored value is encrypted with key {0}, which is not loaded")]
    Key(u32),
    /// The JSON does not parse.
    #[error("the stored value is not the JSON of an object: {0}")]
    Json(String),
}

/// An object as bytes, without resourceVersion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Schema version of the kind at writing.
    pub(crate) schema_version: u32,
    /// Where in `json` the inside of `metadata` begins.
    pub(crate) splice_at: usize,
    /// The object.
    pub(crate) json: Bytes,
}

impl Stored {
    /// Writes an object down in the canonical order; a resourceVersion is left out.
    pub(crate) fn from_value(value: &Value, schema_version: u32) -> Self {
        let mut out = Vec::with_capacity(1024);
        let splice_at = write_object(value, &mut out);
        Self { schema_version, splice_at, json: Bytes::from(out) }
    }

    /// The value to put in the store.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.json.len());
        out.put_u8(FORMAT_JSON);
        out.put_u32(self.schema_version);
        out.put_u32(0);
        out.put_u32(u32::try_from(self.splice_at).unwrap_or(u32::MAX));
        out.put_slice(&self.json);
        out.freeze()
    }

    /// Reads a value of the store; shares its memory.
    ///
    /// # Errors
    /// [`EnvelopeError`] when it was not written by [`Stored::encode`] of this version.
    pub(crate) fn decode(value: &Bytes) -> Result<Self, EnvelopeError> {
        let header = value.get(..HEADER_BYTES).ok_or(EnvelopeError::Truncated)?;
        if header[0] != FORMAT_JSON {
            return Err(EnvelopeError::Format(header[0]));
        }
        let number =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let key_id = number(5);
        if key_id != 0 {
            return Err(EnvelopeError::Key(key_id));
        }
        let splice_at = number(9) as usize;
        let json = value.slice(HEADER_BYTES..);
        if splice_at == 0 || json.get(splice_at - 1) != Some(&b'{') {
            return Err(EnvelopeError::Truncated);
        }
        Ok(Self { schema_version: number(1), splice_at, json })
    }

    /// Parses the JSON.
    ///
    /// # Errors
    /// [`EnvelopeError::Json`].
    pub(crate) fn value(&self) -> Result<Value, EnvelopeError> {
        serde_json::from_slice(&self.json).map_err(|e| EnvelopeError::Json(e.to_string()))
    }

    /// Appends the object with its resourceVersion to `out`; answers where in `out` the
    /// digits of the version begin and how many there are.
    pub(crate) fn write_with_version(&self, revision: i64, out: &mut Vec<u8>) -> (usize, usize) {
        let (head, tail) = self.json.split_at(self.splice_at);
        out.extend_from_slice(head);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        let digits = revision.to_string();
        let at = out.len();
        out.extend_from_slice(digits.as_bytes());
        out.push(b'"');
        if tail.first() != Some(&b'}') {
            out.push(b',');
        }
        out.extend_from_slice(tail);
        (at, digits.len())
    }

    /// The object with its resourceVersion.
    pub(crate) fn with_version(&self, revision: i64) -> Bytes {
        let mut out = Vec::with_capacity(self.json.len() + 48);
        self.write_with_version(revision, &mut out);
        Bytes::from(out)
    }
}

/// Writes `value` in canonical order without resourceVersion; answers where the inside of
/// `metadata` begins.
fn write_object(value: &Value, out: &mut Vec<u8>) -> usize {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    out.extend_from_slice(b"{\"kind\":");
    write_json(text("kind"), out);
    out.extend_from_slice(b",\"apiVersion\":");
    write_json(text("apiVersion"), out);
    out.extend_from_slice(b",\"metadata\":{");
    let splice_at = out.len();
    for (key, field) in value.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        if key != "resourceVersion" {
            write_member(key, field, out);
        }
    }
    out.push(b'}');
    for (key, field) in value.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            write_member(key, field, out);
        }
    }
    out.push(b'}');
    splice_at
}

fn write_member(key: &str, field: &Value, out: &mut Vec<u8>) {
    // Right after an opening brace it is the first member of its object.
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_json(key, out);
    out.push(b':');
    write_json(field, out);
}

/// Appends JSON. Values and strings cannot fail to serialise into memory.
pub(crate) fn write_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_survives_the_store_and_gets_its_version() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
            "metadata": {"name": "c", "resourceVersion": "9"}});
        let stored = Stored::from_value(&object, 7);
        assert!(stored.json.starts_with(br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c"}"#));
        let back = Stored::decode(&stored.encode()).unwrap();
        assert_eq!(back, stored);
        let read: Value = serde_json::from_slice(&back.with_version(42)).unwrap();
        let mut want = object;
        want["metadata"]["resourceVersion"] = json!("42");
        assert_eq!(read, want);
    }

    #[test]
    fn empty_metadata_is_still_json() {
        let stored = Stored::from_value(&json!({"kind": "X", "apiVersion": "v1"}), 1);
        let read: Value = serde_json::from_slice(&stored.with_version(3)).unwrap();
        assert_eq!(read, json!({"kind": "X", "apiVersion": "v1", "metadata": {"resourceVersion": "3"}}));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let good = Stored::from_value(&json!({"metadata": {"name": "c"}}), 1).encode();
        assert_eq!(Stored::decode(&good.slice(..5)), Err(EnvelopeError::Truncated));
        let mut newer = good.to_vec();
        newer[0] = 9;
        assert_eq!(Stored::decode(&Bytes::from(newer)), Err(EnvelopeError::Format(9)));
        let mut sealed = good.to_vec();
        sealed[8] = 3;
        assert_eq!(Stored::decode(&Bytes::from(sealed)), Err(EnvelopeError::Key(3)));
        let mut wild = good.to_vec();
        wild[9] = 0xff;
        assert_eq!(Stored::decode(&Bytes::from(wild)), Err(EnvelopeError::Truncated));
    }
}
