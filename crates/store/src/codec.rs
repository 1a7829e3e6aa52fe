//! Bytes on disk: the primitives that every format of this crate is made of.
//!
//! Integers are unsigned LEB128 ("varint"); an `i64` travels as the `u64` with the same
//! bits, byte strings as their length and then themselves. Each record begins with a format
//! byte of its own. Nothing here allocates from a length that was not checked against what
//! is there.

use bytes::Bytes;

/// A record that cannot be decoded: damaged, or written by a newer version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} cannot be decoded ({why})")]
pub(crate) struct DecodeError {
    /// Kind of record or field.
    pub(crate) what: &'static str,
    /// What is wrong with it.
    pub(crate) why: &'static str,
}

/// Appends an unsigned integer.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a signed integer by its bits.
pub(crate) fn put_i64(out: &mut Vec<u8>, n: i64) {
    put_varint(out, n as u64);
}

/// Appends a byte string with its length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_*` functions wrote. Byte strings share the buffer.
pub(crate) struct Reader {
    buffer: Bytes,
    at: usize,
    what: &'static str,
}

impl Reader {
    /// Reads `buffer`, which holds a `what`.
    pub(crate) fn new(what: &'static str, buffer: Bytes) -> Self {
        Self { buffer, at: 0, what }
    }

    /// An error about what is being read.
    pub(crate) fn error(&self, why: &'static str) -> DecodeError {
        DecodeError { what: self.what, why }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.buffer.get(self.at).ok_or_else(|| self.error("too short"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(self.error("integer too long"))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(self.varint()? as i64)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| self.error("number too large"))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("neither true nor false")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = usize::try_from(self.varint()?).map_err(|_| self.error("length too large"))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.buffer.len());
        let end = end.ok_or_else(|| self.error("too short"))?;
        let bytes = self.buffer.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    /// A count of items that take at least one byte each, so that a damaged count cannot
    /// make the caller reserve more than the record's size.
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let n = usize::try_from(self.varint()?).map_err(|_| self.error("count too large"))?;
        if n > self.buffer.len() - self.at {
            return Err(self.error("count beyond the end"));
        }
        Ok(n)
    }

    /// Checks a format byte.
    pub(crate) fn format(&mut self, known: u8) -> Result<(), DecodeError> {
        if self.u8()? == known { Ok(()) } else { Err(self.error("unknown format byte")) }
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = self.buffer.slice(self.at..);
        self.at = self.buffer.len();
        rest
    }

    /// Refuses bytes after the end.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.buffer.len() { Ok(()) } else { Err(self.error("bytes after the end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_bytes_survive() {
        let mut out = Vec::new();
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            put_varint(&mut out, n);
        }
        put_i64(&mut out, -5);
        put_bytes(&mut out, b"abc");
        let mut reader = Reader::new("test", out.into());
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(reader.varint().unwrap(), n);
        }
        assert_eq!(reader.i64().unwrap(), -5);
        assert_eq!(reader.bytes().unwrap(), "abc");
        reader.end().unwrap();
    }

    #[test]
    fn damage_is_an_error() {
        type Fails = fn(&mut Reader) -> bool;
        let cases: [(&[u8], Fails); 5] = [
            (b"", |r| r.u8().is_err()),
            (b"\x80", |r| r.varint().is_err()),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", |r| r.varint().is_err()),
            (b"\x05ab", |r| r.bytes().is_err()),
            (b"\xff\xff\x03a", |r| r.count().is_err()),
        ];
        for (bytes, fails) in cases {
            assert!(fails(&mut Reader::new("test", Bytes::from_static(bytes))), "{bytes:?}");
        }
    }
}
