//! Quantities: `100m`, `1.5Gi`, `1e3`.
//!
//! A quantity is a whole number of billionths in an `i128`, so no operation rounds but the parse
//! of something finer than a billionth, which rounds up as in Kubernetes. Magnitudes past 2^63-1
//! are capped, likewise. Text is bounded before any arithmetic, so `1e9999999999` is refused at
//! once.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// The longest text that is read as a quantity, in bytes; longer text is refused.
const TEXT_BYTES_MAX: usize = 128;
/// Significant digits that are kept; finer ones round up. 20 digits shifted by 2^60 fit an `i128`.
const DIGITS_MAX: usize = 20;
/// The largest decimal exponent that is looked at; larger ones are refused.
const EXPONENT_MAX: i32 = 999;
const NANO: i128 = 1_000_000_000;
const CAP: i128 = i64::MAX as i128 * NANO;

/// The family of suffixes that a quantity was written with and is printed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `k`, `M`, `G`, … and `m`, `u`, `n`.
    Decimal,
    /// `Ki`, `Mi`, `Gi`, …
    Binary,
    /// `e3`, `e6`, …
    Exponent,
}

/// A fixed-point number with a preferred way of writing it.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing there.
    #[error("quantities must be non-empty")]
    Empty,
    /// Not of the shape of a quantity.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Shape,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// More digits, or a larger exponent, than any quantity has.
    #[error("quantity is longer or larger than any that is accepted")]
    Bounds,
}

impl Quantity {
    /// Zero.
    pub const ZERO: Self = Self { nano: 0, format: Format::Decimal };

    /// A whole number.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nano: i128::from(units) * NANO, format }
    }

    /// Thousandths, as CPU is counted.
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * 1_000_000, format: Format::Decimal }
    }

    /// Reads a JSON string or number.
    pub fn from_value(value: &Value) -> Result<Self, ParseError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(ParseError::Shape),
        }
    }

    /// The value in thousandths, rounded up.
    pub fn milli(&self) -> i128 {
        div_ceil(self.nano, 1_000_000)
    }

    /// The value in whole units (bytes, cores, …), rounded up.
    pub fn units(&self) -> i128 {
        div_ceil(self.nano, NANO)
    }

    /// The value in billionths, exact.
    pub fn nano(&self) -> i128 {
        self.nano
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is a whole number.
    pub fn is_integer(&self) -> bool {
        self.nano % NANO == 0
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// The sum, written as `self` is unless that is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: self.nano.saturating_add(other.nano), format }
    }

    /// The difference, written as `self` is unless that is zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: self.nano.saturating_sub(other.nano), format }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

fn div_ceil(a: i128, b: i128) -> i128 {
    let q = a / b;
    if a % b != 0 && a > 0 { q + 1 } else { q }
}

/// Away from zero, as Kubernetes rounds what is finer than it keeps.
fn div_away(a: i128, b: i128) -> i128 {
    let q = a / b;
    if a % b == 0 { q } else { q + a.signum() }
}

/// The power of two or ten that a suffix stands for.
enum Scale {
    Binary(u32),
    Decimal(i32, Format),
}

fn scale(suffix: &str) -> Result<Scale, ParseError> {
    let decimal = |power| Ok(Scale::Decimal(power, Format::Decimal));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => Ok(Scale::Binary(10)),
        "Mi" => Ok(Scale::Binary(20)),
        "Gi" => Ok(Scale::Binary(30)),
        "Ti" => Ok(Scale::Binary(40)),
        "Pi" => Ok(Scale::Binary(50)),
        "Ei" => Ok(Scale::Binary(60)),
        _ => {
            let power = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
            let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(ParseError::Suffix);
            }
            match power.parse::<i32>() {
                Ok(power) if power.abs() <= EXPONENT_MAX => Ok(Scale::Decimal(power, Format::Exponent)),
                _ => Err(ParseError::Bounds),
            }
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseError::Bounds);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseError::Shape);
        }
        let scale = scale(suffix)?;
        let (mantissa, exponent) = digits(whole, fraction);
        let (nano, format) = match scale {
            Scale::Binary(bits) => (shift(mantissa << bits, exponent + 9), Format::Binary),
            Scale::Decimal(power, format) => (shift(mantissa, exponent + power + 9), format),
        };
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }
}

/// The digits as `mantissa * 10^exponent`, with at most `DIGITS_MAX` digits, rounded up.
fn digits(whole: &str, fraction: &str) -> (i128, i32) {
    let (mut mantissa, mut kept, mut lost) = (0_i128, 0_usize, false);
    let mut exponent = 0_i32;
    for (digit, is_fraction) in whole.bytes().map(|b| (b, false)).chain(fraction.bytes().map(|b| (b, true))) {
        let digit = i128::from(digit - b'0');
        if kept < DIGITS_MAX {
            mantissa = mantissa * 10 + digit;
            kept += usize::from(mantissa != 0);
            exponent -= i32::from(is_fraction);
        } else {
            lost |= digit != 0;
            exponent += i32::from(!is_fraction);
        }
    }
    (mantissa + i128::from(lost), exponent)
}

/// `value * 10^power`, capped, rounded up; `value` is not negative.
fn shift(value: i128, power: i32) -> i128 {
    if value == 0 {
        return 0;
    }
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    let shifted = match (power >= 0, factor) {
        (true, Some(factor)) => value.checked_mul(factor).unwrap_or(CAP),
        (true, None) => CAP,
        (false, Some(factor)) => div_away(value, factor),
        (false, None) => 1,
    };
    shifted.min(CAP)
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        if self.format == Format::Binary && !small && self.is_integer() {
            let (mut value, mut suffix) = (self.nano / NANO, 0);
            while value % 1024 == 0 && suffix < 6 {
                value /= 1024;
                suffix += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][suffix]);
        }
        let (mut value, mut power) = (self.nano, -9_i32);
        while value % 1000 == 0 && power < 18 {
            value /= 1000;
            power += 3;
        }
        if self.format == Format::Exponent {
            return if power == 0 { write!(f, "{value}") } else { write!(f, "{value}e{power}") };
        }
        let suffix = match power {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            0 => "",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            _ => "E",
        };
        write!(f, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        let rows = [
            ("0", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1024", "1024"),
            ("100Ki", "100Ki"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1e0", "1"),
            ("1E", "1E"),
            ("100e-3", "100e-3"),
            ("-1.5", "-1500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("+5", "5"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1u", "1u"),
            ("10000000000000000000000", "9223372036854775807"),
            ("0.00000000001Gi", "10737419n"),
        ];
        for (text, canonical) in rows {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.to_string(), canonical, "{text}");
            let again: Quantity = canonical.parse().unwrap();
            assert_eq!(again.to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_at_once() {
        for text in [
            "",
            "x",
            "1x",
            "1.2.3",
            "1 ",
            " 1",
            "--1",
            "1e",
            "1e+",
            "e3",
            "Ki",
            "1ki",
            "1K",
            ".",
            "-",
            "1e9999999999",
            "1e1000",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
        assert_eq!("9".repeat(200).parse::<Quantity>(), Err(ParseError::Bounds));
        assert!(Quantity::from_value(&serde_json::json!(true)).is_err());
        assert_eq!(Quantity::from_value(&serde_json::json!(2)).unwrap().to_string(), "2");
    }

    #[test]
    fn large_exponents_saturate_and_small_ones_round_up() {
        assert_eq!("1e100".parse::<Quantity>().unwrap().units(), i128::from(i64::MAX));
        assert_eq!("1e-100".parse::<Quantity>().unwrap().nano(), 1);
        assert_eq!("0e100".parse::<Quantity>().unwrap().nano(), 0);
    }

    #[test]
    fn arithmetic_and_units() {
        let a: Quantity = "1.0005".parse().unwrap();
        assert_eq!((a.milli(), a.units()), (1001, 2));
        let b: Quantity = "1Gi".parse().unwrap();
        assert_eq!(b.units(), 1 << 30);
        assert!(b > a);
        assert_eq!(Quantity::ZERO.plus(b).to_string(), "1Gi");
        assert_eq!(b.minus("512Mi".parse().unwrap()).to_string(), "512Mi");
        assert_eq!(Quantity::from_milli(250).to_string(), "250m");
    }
}
