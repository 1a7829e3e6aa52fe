//! Namespaces: their phase, and the finalizers in their spec that a subresource takes off.

use coracle_api::meta;
use serde_json::{Value, json};

use crate::registry::index::Row;

/// Whether the namespace's spec still has finalizers.
pub(super) fn has_finalizers(namespace: &Value) -> bool {
    namespace.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|all| !all.is_empty())
}

/// Whether nothing of the kind's own holds an object that is to go.
pub(super) fn is_released(row: &Row, object: &Value) -> bool {
    !row.is("", "namespaces") || !has_finalizers(object)
}

/// Sets `status.phase`.
pub(super) fn set_phase(namespace: &mut Value, phase: &str) {
    if !namespace.get("status").is_some_and(Value::is_object) {
        namespace["status"] = json!({});
    }
    namespace["status"]["phase"] = json!(phase);
}

/// A write of `finalize` changes the finalizers of the spec and nothing else.
pub(super) fn prepare_finalize(new: &mut Value, old: &Value) {
    let finalizers = new.pointer("/spec/finalizers").cloned().unwrap_or_else(|| json!([]));
    let metadata_finalizers = meta::finalizers(new).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut kept = old.clone();
    if !kept.get("spec").is_some_and(Value::is_object) {
        kept["spec"] = json!({});
    }
    let empty = finalizers.as_array().is_none_or(Vec::is_empty);
    if empty {
        if let Some(spec) = kept["spec"].as_object_mut() {
            spec.remove("finalizers");
        }
    } else {
        kept["spec"]["finalizers"] = finalizers;
    }
    let shown = if metadata_finalizers.is_empty() { Value::Null } else { json!(metadata_finalizers) };
    meta::set(&mut kept, "finalizers", shown);
    *new = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalize_changes_only_finalizers() {
        let old = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}});
        let mut new = json!({"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"finalizers": []}, "status": {"phase": "Active"}});
        prepare_finalize(&mut new, &old);
        assert!(!has_finalizers(&new) && meta::labels(&new).is_none());
        assert_eq!(new["status"]["phase"], "Terminating");
    }
}
