//! `core/v1 Secret`: `stringData` is written over `data`, and some types demand keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::{Map, Value};

use super::config::{DATA_BYTES_MAX, frozen};
use super::{Kind, check};
use crate::view::{at, entries, has, object_mut, text};

/// `core/v1 Secret`.
pub(super) struct Secret;

impl Kind for Secret {
    fn default(&self, object: &mut Value) {
        let strings = object.as_object_mut().and_then(|o| o.remove("stringData"));
        let Some(Value::Object(strings)) = strings else { return };
        if strings.is_empty() {
            return;
        }
        let encoded: Map<String, Value> = strings
            .into_iter()
            .map(|(key, value)| (key, STANDARD.encode(value.as_str().unwrap_or_default()).into()))
            .collect();
        if let Some(data) = object_mut(object, "data") {
            data.extend(encoded);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("data");
        let mut size = 0;
        for (key, value) in entries(object, "data") {
            check::all(key, names::config_map_key(key), &path.key(key), errors);
            size += value.as_str().map_or(0, |v| v.len() / 4 * 3);
        }
        if size > DATA_BYTES_MAX {
            errors.push(FieldError::too_long(path, DATA_BYTES_MAX));
        }
        for key in required_keys(text(object, "type")) {
            if at(object, "data").get(*key).is_none() {
                errors.push(FieldError::required(path.key(key), ""));
            }
        }
        if text(object, "type") == "kubernetes.io/basic-auth"
            && !has(object, "data.username")
            && !has(object, "data.password")
        {
            errors.push(FieldError::required(path.key("username"), ""));
            errors.push(FieldError::required(path.key("password"), ""));
        }
        let account = "metadata.annotations[kubernetes.io/service-account.name]";
        if text(object, "type") == "kubernetes.io/service-account-token"
            && coracle_api::meta::annotation(object, "kubernetes.io/service-account.name")
                .is_none_or(str::is_empty)
        {
            errors.push(FieldError::required(account, ""));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(new, old, "type", errors);
        frozen(new, old, &["data"], errors);
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("type", text(object, "type").to_owned())]
    }
}

fn required_keys(ty: &str) -> &'static [&'static str] {
    match ty {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}
