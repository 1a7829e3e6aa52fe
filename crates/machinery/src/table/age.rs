//! Ages: how long ago something was, in the two most telling units.

use coracle_api::{meta, time};
use jiff::Timestamp;
use serde_json::Value;

const UNKNOWN: &str = "<unknown>";

/// A duration in seconds as `5s`, `3m10s`, `2d3h`, `400d`, `2y35d`.
pub fn human(seconds: i64) -> String {
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        s if s < -1 => "<invalid>".to_owned(),
        s if s < 0 => "0s".to_owned(),
        s if s < 120 => format!("{s}s"),
        s if minutes < 10 => two(minutes, "m", s % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 8 * 365 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// How long before `now` a written time was; `<unknown>` without one.
pub(super) fn since(text: &str, now: Timestamp) -> String {
    match time::parse(text) {
        Some(then) => human(now.as_second() - then.as_second()),
        None => UNKNOWN.to_owned(),
    }
}

/// The age of an object.
pub fn age(object: &Value, now: Timestamp) -> String {
    meta::creation_timestamp(object).map_or_else(|| UNKNOWN.to_owned(), |text| since(text, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_kubectl() {
        let (minute, hour, day) = (60, 3600, 86_400);
        let rows = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (5, "5s"),
            (119, "119s"),
            (2 * minute, "2m"),
            (190, "3m10s"),
            (10 * minute + 5, "10m"),
            (179 * minute, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 5 * minute, "3h5m"),
            (8 * hour + minute, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (2 * day + 3 * hour, "2d3h"),
            (9 * day + hour, "9d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (765 * day, "2y35d"),
            (3000 * day, "8y"),
        ];
        for (seconds, text) in rows {
            assert_eq!(human(seconds), text);
        }
    }
}
