//! The two time formats of Kubernetes: `Time` in whole seconds, `MicroTime` in microseconds.

use jiff::Timestamp;
use jiff::tz::Offset;

/// `metav1.Time`: `2006-01-02T15:04:05Z`.
pub fn seconds(time: Timestamp) -> String {
    let t = Offset::UTC.to_datetime(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// `metav1.MicroTime`: `2006-01-02T15:04:05.000000Z`.
pub fn micros(time: Timestamp) -> String {
    let t = Offset::UTC.to_datetime(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.subsec_nanosecond() / 1000
    )
}

/// Reads RFC 3339 as Go does: a date, `T`, a time and an offset, nothing left out.
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20
        && bytes.len() <= 64
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && bytes[10] == b'T'
        && bytes[13] == b':'
        && bytes[16] == b':'
        && matches!(bytes[19], b'Z' | b'.' | b'+' | b'-');
    if shaped { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip() {
        let t = parse("2024-02-29T01:02:03.456789Z").unwrap();
        assert_eq!(seconds(t), "2024-02-29T01:02:03Z");
        assert_eq!(micros(t), "2024-02-29T01:02:03.456789Z");
        assert_eq!(seconds(parse("2024-02-29T03:02:03+02:00").unwrap()), "2024-02-29T01:02:03Z");
    }

    #[test]
    fn what_is_no_rfc_3339_is_refused() {
        for text in ["", "2024-02-29", "2024-02-29 01:02:03Z", "2024-13-29T01:02:03Z", "2024-02-29T01:02:03"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
