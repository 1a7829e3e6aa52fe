//! `node.k8s.io/v1 RuntimeClass`.

use coracle_api::{FieldErrors, FieldPath, names};
use serde_json::Value;

use super::{Kind, check, metadata, pod};
use crate::view::{at, entries};

/// `node.k8s.io/v1 RuntimeClass`.
pub(super) struct RuntimeClass;

impl Kind for RuntimeClass {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let handler = check::required(object, "handler", &FieldPath::ROOT, errors);
        if !handler.is_empty() {
            check::all(handler, names::dns1123_label(handler), &FieldPath::new("handler"), errors);
        }
        let overhead = FieldPath::new("overhead");
        // The field is called podFixed; kube-apiserver reports it by the name of its check.
        let limits = overhead.child("limits");
        for (name, value) in entries(object, "overhead.podFixed") {
            check::quantity(value, &limits.key(name), errors);
        }
        let scheduling = FieldPath::new("scheduling");
        metadata::label_map(at(object, "scheduling.nodeSelector"), &scheduling.child("nodeSelector"), errors);
        pod::tolerations(at(object, "scheduling"), &scheduling, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(new, old, "handler", errors);
    }
}
