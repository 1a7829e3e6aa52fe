//! The rules of a pod's volumes.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use super::defaults::VOLUME_SOURCES;
use crate::kinds::check;
use crate::view::{at, has, int, list};

/// Finds what is wrong with the volumes. Answers their names.
pub(super) fn validate<'a>(spec: &'a Value, path: &FieldPath<'_>, errors: &mut FieldErrors) -> Vec<&'a str> {
    let path = path.child("volumes");
    let mut seen: Vec<&str> = Vec::new();
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        let item = path.index(i);
        let name = check::required(volume, "name", &item, errors);
        if !name.is_empty() {
            check::all(name, names::dns1123_label(name), &item.child("name"), errors);
            if seen.contains(&name) {
                errors.push(FieldError::duplicate(item.child("name"), name));
            }
        }
        seen.push(name);
        source(volume, &item, errors);
    }
    seen
}

fn source(volume: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let mut count = 0;
    for kind in VOLUME_SOURCES.into_iter().filter(|kind| has(volume, kind)) {
        count += 1;
        let place = path.child(kind);
        if count > 1 {
            errors.push(FieldError::forbidden(place, "may not specify more than 1 volume type"));
            continue;
        }
        let source = at(volume, kind);
        match kind {
            "secret" => {
                check::required(source, "secretName", &place, errors);
                items(source, &place, errors);
            }
            "configMap" => {
                check::required(source, "name", &place, errors);
                items(source, &place, errors);
            }
            "persistentVolumeClaim" => {
                check::required(source, "claimName", &place, errors);
            }
            "hostPath" => {
                let host = check::required(source, "path", &place, errors);
                if host.split('/').any(|part| part == "..") {
                    errors.push(FieldError::invalid(place.child("path"), host, "must not contain '..'"));
                }
            }
            "emptyDir" if has(source, "sizeLimit") => {
                check::quantity(at(source, "sizeLimit"), &place.child("sizeLimit"), errors);
            }
            "projected" => projected(source, &place, errors),
            "csi" => {
                check::required(source, "driver", &place, errors);
            }
            "nfs" => {
                check::required(source, "server", &place, errors);
                check::required(source, "path", &place, errors);
            }
            _ => {}
        }
        mode(source, "defaultMode", &place, errors);
    }
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn mode(source: &Value, name: &str, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    if let Some(mode) = int(source, name).filter(|m| !(0..=0o777).contains(m)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path.child(name), mode, why));
    }
}

fn items(source: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("items");
    for (i, item) in list(source, "items").iter().enumerate() {
        let place = path.index(i);
        check::required(item, "key", &place, errors);
        let target = check::required(item, "path", &place, errors);
        if target.starts_with('/') {
            errors.push(FieldError::invalid(place.child("path"), target, "must be a relative path"));
        }
        if target.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(place.child("path"), target, "must not contain '..'"));
        }
        mode(item, "mode", &place, errors);
    }
}

fn projected(source: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("sources");
    for (i, part) in list(source, "sources").iter().enumerate() {
        let place = path.index(i);
        for kind in ["secret", "configMap"] {
            if has(part, kind) {
                check::required(at(part, kind), "name", &place.child(kind), errors);
                items(at(part, kind), &place.child(kind), errors);
            }
        }
        let token = at(part, "serviceAccountToken");
        if !token.is_null() {
            let at_token = place.child("serviceAccountToken");
            check::required(token, "path", &at_token, errors);
            let seconds = int(token, "expirationSeconds").unwrap_or(3600);
            if seconds < 600 {
                let why = "may not specify a duration less than 10 minutes";
                errors.push(FieldError::invalid(at_token.child("expirationSeconds"), seconds, why));
            }
        }
    }
}
