//! One entry of a log.

use jiff::Timestamp;

/// An entry of a log file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// When it was written, as the runtime spelled it.
    pub(super) time: &'a str,
    /// Whether the next entry continues it.
    pub(super) partial: bool,
    /// What the container wrote, without the newline of the entry.
    pub(super) content: &'a [u8],
}

impl<'a> Line<'a> {
    /// Parses an entry without its final newline; `None` when it is none.
    pub(super) fn parse(entry: &'a [u8]) -> Option<Self> {
        let mut parts = entry.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = parts.next()?;
        if stream != b"stdout" && stream != b"stderr" {
            return None;
        }
        // Tags are separated by colons; the first says whether the line is complete.
        let tag = parts.next()?.split(|byte| *byte == b':').next()?;
        let partial = match tag {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self { time, partial, content: parts.next().unwrap_or_default() })
    }

    /// When it was written.
    pub(super) fn written_at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_parse() {
        let line = Line::parse(b"2026-01-02T03:04:05.000000006Z stdout F hello  world").unwrap();
        assert_eq!(line.content, b"hello  world");
        assert!(!line.partial);
        assert_eq!(line.written_at().unwrap().subsec_nanosecond(), 6);
        assert!(Line::parse(b"2026-01-02T03:04:05Z stderr P:x part").unwrap().partial);
        assert_eq!(Line::parse(b"2026-01-02T03:04:05Z stdout F ").unwrap().content, b"");
        for bad in [&b""[..], b"x", b"2026-01-02T03:04:05Z stdin F x", b"2026-01-02T03:04:05Z stdout Q x"] {
            assert_eq!(Line::parse(bad), None);
        }
    }
}
