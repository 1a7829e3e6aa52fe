//! Whether a text is a cron schedule: five fields, or one of the `@` words.

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Checks a schedule. The error says what is wrong with it.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let schedule = match schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ=")) {
        Some(rest) => rest.split_once(' ').map_or("", |(_, rest)| rest),
        None => schedule,
    };
    if let Some(word) = schedule.strip_prefix('@') {
        let known =
            matches!(word, "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly");
        let every = word.strip_prefix("every ").is_some_and(is_duration);
        return if known || every { Ok(()) } else { Err(format!("unrecognized descriptor: @{word}")) };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    for (i, (field, bounds)) in fields.iter().zip(bounds).enumerate() {
        let names: &[&str] = match i {
            3 => &MONTHS,
            4 => &DAYS,
            _ => &[],
        };
        for part in field.split(',') {
            range(part, bounds, names)?;
        }
    }
    Ok(())
}

fn is_duration(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let ends_in_unit = digits.len() < text.len();
    ends_in_unit
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'h' | b'm' | b's' | b'.'))
        && !digits.is_empty()
}

fn range(part: &str, (low, high): (u32, u32), names: &[&str]) -> Result<(), String> {
    let (span, step) = match part.split_once('/') {
        None => (part, None),
        Some((span, step)) => (span, Some(step)),
    };
    if let Some(step) = step {
        let step: u32 = step.parse().map_err(|_| format!("failed to parse int from {step}"))?;
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
    }
    if span == "*" || span == "?" {
        return Ok(());
    }
    let (first, last) = span.split_once('-').unwrap_or((span, span));
    let number = |text: &str| -> Result<u32, String> {
        let named = names.iter().position(|n| text.eq_ignore_ascii_case(n));
        // Months count from one, days of the week from zero: from `low`, both.
        match named.and_then(|i| u32::try_from(i).ok()) {
            Some(index) => Ok(index + low),
            None => text.parse().map_err(|_| format!("failed to parse int from {text}")),
        }
    };
    let (first, last) = (number(first)?, number(last)?);
    match () {
        () if first < low => Err(format!("beginning of range ({first}) below minimum ({low}): {part}")),
        () if last > high => Err(format!("end of range ({last}) above maximum ({high}): {part}")),
        () if first > last => {
            Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"))
        }
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "17 3 * * 2",
            "*/5 0-6,12 1 jan-mar MON",
            "@daily",
            "@every 1h30m",
            "0 0 ? * *",
            "TZ=UTC 1 * * * *",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "* * * *",
            "61 * * * *",
            "* 24 * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "x * * * *",
            "@never",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
