//! `core/v1 Namespace`: it carries its own name as a label and the finalizer `kubernetes`, which
//! the namespace controller removes through the `finalize` subresource.

use coracle_api::{FieldErrors, FieldPath, meta, names};
use serde_json::{Value, json};

use super::{Kind, check};
use crate::view::{keep, list, object_mut, text};

const LABEL: &str = "kubernetes.io/metadata.name";

/// `core/v1 Namespace`.
pub(super) struct Namespace;

impl Kind for Namespace {
    fn default(&self, object: &mut Value) {
        let name = meta::name(object).to_owned();
        if let (false, Some(labels)) = (name.is_empty(), object_mut(object, "metadata.labels")) {
            labels.insert(LABEL.to_owned(), name.into());
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let has = list(object, "spec.finalizers").iter().any(|f| f == "kubernetes");
        if let (false, Some(spec)) = (has, object_mut(object, "spec")) {
            let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
            if let Some(finalizers) = finalizers.as_array_mut() {
                finalizers.push("kubernetes".into());
            }
        }
        if let Some(object) = object.as_object_mut() {
            object.insert("status".to_owned(), json!({"phase": "Active"}));
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = FieldPath::new("spec");
        let path = spec.child("finalizers");
        for (i, finalizer) in list(object, "spec.finalizers").iter().enumerate() {
            let name = finalizer.as_str().unwrap_or_default();
            check::all(name, names::qualified_name(name), &path.index(i), errors);
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn name_errors(&self, name: &str) -> Vec<String> {
        if name.contains('.') { vec!["must not contain dots".to_owned()] } else { names::dns1123_label(name) }
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", text(object, "status.phase").to_owned())]
    }
}
