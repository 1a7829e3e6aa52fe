//! Storage: PersistentVolume, PersistentVolumeClaim, StorageClass.

use coracle_api::quantity::Quantity;
use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use super::pod::VOLUME_SOURCES;
use super::{Kind, check};
use crate::view::{at, entries, get_mut, has, list, object_mut, text};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Bytes that the parameters of a StorageClass may have.
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
/// Parameters that a StorageClass may have.
const PARAMETERS_MAX: usize = 512;

/// `core/v1 PersistentVolumeClaim`.
pub(super) struct PersistentVolumeClaim;

impl Kind for PersistentVolumeClaim {
    fn prepare_create(&self, object: &mut Value) {
        add_finalizer(object, "kubernetes.io/pvc-protection");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        modes(spec, "at least 1 access mode is required", &path, errors);
        let at_resources = path.child("resources");
        match at(spec, "resources.requests").get("storage").map(Quantity::from_value) {
            None => errors.push(FieldError::required(at_resources.key("storage"), "")),
            Some(Ok(size)) if size.is_negative() || size.is_zero() => {
                errors.push(FieldError::invalid(
                    at_resources.key("storage"),
                    size.to_string(),
                    "must be greater than zero",
                ));
            }
            Some(_) => {}
        }
        let class = text(spec, "storageClassName");
        if !class.is_empty() {
            check::all(class, names::dns1123_subdomain(class), &path.child("storageClassName"), errors);
        }
        check::one_of(spec, "volumeMode", &["Block", "Filesystem"], &path, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let bound = text(old, "status.phase") == "Bound";
        let fixed = |object: &Value| {
            let mut spec = at(object, "spec").clone();
            if let Some(spec) = spec.as_object_mut() {
                // The binder fills these in once; a class may be given late.
                for name in ["volumeName", "storageClassName"] {
                    if text(old, &format!("spec.{name}")).is_empty() {
                        spec.remove(name);
                    }
                }
            }
            if bound {
                if let Some(requests) =
                    get_mut(&mut spec, "resources.requests").and_then(Value::as_object_mut)
                {
                    requests.remove("storage");
                }
                if let Some(spec) = spec.as_object_mut() {
                    spec.remove("volumeAttributesClassName");
                }
            }
            spec
        };
        if fixed(new) != fixed(old) {
            let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
            errors.push(FieldError::forbidden("spec", why));
        }
    }

    fn has_status(&self) -> bool {
        true
    }
}

/// `core/v1 PersistentVolume`.
pub(super) struct PersistentVolume;

impl Kind for PersistentVolume {
    fn prepare_create(&self, object: &mut Value) {
        add_finalizer(object, "kubernetes.io/pv-protection");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        modes(spec, "", &path, errors);
        let capacity = path.child("capacity");
        if !has(spec, "capacity") {
            errors.push(FieldError::required(capacity, ""));
        } else if at(spec, "capacity").get("storage").is_none() {
            let found: Vec<&String> = entries(spec, "capacity").map(|(name, _)| name).collect();
            errors.push(FieldError::not_supported(capacity, json!(found), &["storage"]));
        }
        for (name, value) in entries(spec, "capacity") {
            let size = check::quantity(value, &capacity.key(name), errors);
            if size.is_some_and(|s| s.is_zero()) {
                errors.push(FieldError::invalid(capacity.key(name), "0", "must be greater than zero"));
            }
        }
        check::one_of(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], &path, errors);
        check::one_of(spec, "volumeMode", &["Block", "Filesystem"], &path, errors);
        let sources: Vec<&str> =
            VOLUME_SOURCES.into_iter().chain(["local"]).filter(|s| has(spec, s)).collect();
        match sources.as_slice() {
            [] => errors.push(FieldError::required(path, "must specify a volume type")),
            [_] => {}
            [_, more @ ..] => {
                for source in more {
                    errors.push(FieldError::forbidden(
                        path.child(source),
                        "may not specify more than 1 volume type",
                    ));
                }
            }
        }
        if has(spec, "local") && !has(spec, "nodeAffinity") {
            errors.push(FieldError::required("metadata.annotations", "Local volume requires node affinity"));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        for source in VOLUME_SOURCES.into_iter().chain(["local"]) {
            if at(new, "spec").get(source) != at(old, "spec").get(source) {
                errors.push(FieldError::forbidden(
                    "spec.persistentvolumesource",
                    "spec.persistentvolumesource is immutable after creation",
                ));
                break;
            }
        }
        check::immutable(new, old, "spec.volumeMode", errors);
    }

    fn has_status(&self) -> bool {
        true
    }
}

fn modes(spec: &Value, missing: &str, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("accessModes");
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(path, missing));
    }
    for mode in modes.iter().filter_map(Value::as_str).filter(|m| !MODES.contains(m)) {
        errors.push(FieldError::not_supported(path, mode, &MODES));
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        errors.push(FieldError::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

fn add_finalizer(object: &mut Value, name: &str) {
    let Some(metadata) = object_mut(object, "metadata") else { return };
    let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
    let missing = finalizers.as_array_mut().filter(|list| !list.iter().any(|f| f == name));
    if let Some(finalizers) = missing {
        finalizers.push(name.into());
    }
}

/// `storage.k8s.io/v1 StorageClass`.
pub(super) struct StorageClass;

impl Kind for StorageClass {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let root = FieldPath::ROOT;
        let provisioner = check::required(object, "provisioner", &root, errors);
        if !provisioner.is_empty() {
            let rule = names::qualified_name(&provisioner.to_lowercase());
            check::all(provisioner, rule, &FieldPath::new("provisioner"), errors);
        }
        let (mut size, mut count) = (0, 0);
        for (key, value) in entries(object, "parameters") {
            if key.is_empty() {
                errors.push(FieldError::invalid("parameters", "", "field can not be empty."));
            }
            count += 1;
            size += key.len() + value.as_str().map_or(0, str::len);
        }
        if count > PARAMETERS_MAX {
            errors.push(FieldError::too_long("parameters", PARAMETERS_MAX));
        }
        if size > PARAMETERS_BYTES_MAX {
            errors.push(FieldError::too_long("parameters", PARAMETERS_BYTES_MAX));
        }
        check::one_of(object, "reclaimPolicy", &["Delete", "Retain"], &root, errors);
        check::one_of(object, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], &root, errors);
        let topologies = FieldPath::new("allowedTopologies");
        for (i, term) in list(object, "allowedTopologies").iter().enumerate() {
            let term_path = topologies.index(i);
            let expressions = term_path.child("matchLabelExpressions");
            for (j, expression) in list(term, "matchLabelExpressions").iter().enumerate() {
                let item = expressions.index(j);
                let at_values = item.child("values");
                let values = list(expression, "values");
                if values.is_empty() {
                    errors.push(FieldError::required(at_values, ""));
                }
                for (k, value) in values.iter().enumerate().filter(|(k, v)| values[..*k].contains(v)) {
                    errors.push(FieldError::duplicate(at_values.index(k), value.clone()));
                }
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            check::immutable(new, old, name, errors);
        }
    }
}
