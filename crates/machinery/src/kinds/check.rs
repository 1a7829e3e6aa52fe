//! The rules that fields of many kinds share.

use coracle_api::quantity::Quantity;
use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use crate::view::{at, int, text};

/// How kube-apiserver says that a field may not change.
pub(super) const IMMUTABLE: &str = "field is immutable";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// The text `object[name]` must be one of `allowed`; an absent one is fine.
pub(super) fn one_of(
    object: &Value,
    name: &str,
    allowed: &[&str],
    path: &FieldPath<'_>,
    errors: &mut FieldErrors,
) {
    let value = text(object, name);
    if !value.is_empty() && !allowed.contains(&value) {
        errors.push(FieldError::not_supported(path.child(name), value, allowed));
    }
}

/// The text `object[name]` must be there. Answers it.
pub(super) fn required<'a>(
    object: &'a Value,
    name: &str,
    path: &FieldPath<'_>,
    errors: &mut FieldErrors,
) -> &'a str {
    let value = text(object, name);
    if value.is_empty() {
        errors.push(FieldError::required(path.child(name), ""));
    }
    value
}

/// The number `object[name]`, if it is there, must not be negative.
pub(super) fn not_negative(object: &Value, name: &str, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    at_least(object, name, 0, NOT_NEGATIVE, path, errors);
}

/// The number `object[name]`, if it is there, must be at least 1.
pub(super) fn positive(object: &Value, name: &str, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    at_least(object, name, 1, "must be greater than 0", path, errors);
}

fn at_least(
    object: &Value,
    name: &str,
    least: i64,
    why: &str,
    path: &FieldPath<'_>,
    errors: &mut FieldErrors,
) {
    if let Some(value) = int(object, name).filter(|v| *v < least) {
        errors.push(FieldError::invalid(path.child(name), value, why));
    }
}

/// The field at a dotted path may not change.
pub(super) fn immutable(new: &Value, old: &Value, path: &str, errors: &mut FieldErrors) {
    let (new, old) = (at(new, path), at(old, path));
    if new != old {
        errors.push(FieldError::invalid(path, new.clone(), IMMUTABLE));
    }
}

/// Every message of a check of a text becomes an error.
pub(super) fn all(value: &str, messages: Vec<String>, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    for why in messages {
        errors.push(FieldError::invalid(path, value, why));
    }
}

/// A port number must be valid.
pub(super) fn port(value: i64, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    for why in names::port_number(value) {
        errors.push(FieldError::invalid(path, value, why));
    }
}

/// A port by number or name must be valid; an absent one is an error.
pub(super) fn port_or_name(value: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    match value {
        Value::String(name) => all(name, names::port_name(name), path, errors),
        other => port(other.as_i64().unwrap_or_default(), path, errors),
    }
}

/// A count or a percentage: a number that is not negative, or text such as `25%`.
pub(super) fn count_or_percent(value: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    match value {
        Value::String(share) => all(share, names::percent(share), path, errors),
        other => {
            if let Some(count) = other.as_i64().filter(|n| *n < 0) {
                errors.push(FieldError::invalid(path, count, NOT_NEGATIVE));
            }
        }
    }
}

/// A quantity must not be negative. Answers it, if it is one.
pub(super) fn quantity(value: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) -> Option<Quantity> {
    let quantity = Quantity::from_value(value).ok()?;
    if quantity.is_negative() {
        errors.push(FieldError::invalid(path, quantity.to_string(), NOT_NEGATIVE));
    }
    Some(quantity)
}

/// Whether a count or a percentage is zero, as `0` or `0%`.
pub(super) fn is_zero(value: &Value) -> bool {
    value.as_i64() == Some(0)
        || value.as_str().is_some_and(|s| s.trim_end_matches('%').parse::<u64>().is_ok_and(|n| n == 0))
}
