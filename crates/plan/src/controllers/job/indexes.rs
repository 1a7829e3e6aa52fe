//! Sets of completion indexes, written as Kubernetes writes them: `0,3-5,7`.

use std::collections::BTreeSet;

/// The largest index that is read; the API allows 100,000 completions.
const INDEX_MAX: u32 = 1_000_000;

/// Reads a set; what cannot be read is left out.
pub(super) fn parse(text: &str) -> BTreeSet<u32> {
    let mut set = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
        if first <= last && last <= INDEX_MAX {
            set.extend(first..=last);
        }
    }
    set
}

/// Writes a set; runs of two are written one by one.
pub(super) fn format(set: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &index in set {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let text = |(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_round_trip() {
        for text in ["", "0", "0,1", "0-2", "0,3-5,7"] {
            assert_eq!(format(&parse(text)), text);
        }
        assert_eq!(parse("x,3-1,4-99999999999,2"), BTreeSet::from([2]));
    }
}
