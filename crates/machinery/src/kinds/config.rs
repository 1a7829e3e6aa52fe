//! `ConfigMap` and `ControllerRevision`: data that is kept as given.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use super::{Kind, check};
use crate::view::{at, entries, flag, has};

/// Bytes that the values of a ConfigMap or Secret may have together.
pub(super) const DATA_BYTES_MAX: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// `core/v1 ConfigMap`.
pub(super) struct ConfigMap;

impl Kind for ConfigMap {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let mut size = 0;
        for field in ["data", "binaryData"] {
            let path = FieldPath::new(field);
            for (key, value) in entries(object, field) {
                check::all(key, names::config_map_key(key), &path.key(key), errors);
                if field == "data" && at(object, "binaryData").get(key).is_some() {
                    let why = "duplicate of key present in binaryData";
                    errors.push(FieldError::invalid(path.key(key), key.as_str(), why));
                }
                let length = value.as_str().map_or(0, str::len);
                size += if field == "data" { length } else { length / 4 * 3 };
            }
        }
        if size > DATA_BYTES_MAX {
            errors.push(FieldError::too_long("", DATA_BYTES_MAX));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        frozen(new, old, &["data", "binaryData"], errors);
    }
}

/// What is marked immutable may not change, nor lose the mark.
pub(super) fn frozen(new: &Value, old: &Value, fields: &[&str], errors: &mut FieldErrors) {
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        errors.push(FieldError::forbidden("immutable", FROZEN));
    }
    for field in fields {
        if new.get(field) != old.get(field) {
            errors.push(FieldError::forbidden(field, FROZEN));
        }
    }
}

/// `apps/v1 ControllerRevision`.
pub(super) struct ControllerRevision;

impl Kind for ControllerRevision {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::ROOT;
        if !has(object, "data") {
            errors.push(FieldError::required("data", "data is mandatory"));
        }
        check::not_negative(object, "revision", &path, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(new, old, "data", errors);
    }
}
