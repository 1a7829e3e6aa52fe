//! `rbac.authorization.k8s.io/v1`: roles and bindings, in a namespace and of the cluster.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use super::{Kind, check};
use crate::view::{at, list, list_mut, set_default, text};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A role of either scope.
pub(super) struct Role {
    namespaced: bool,
}

/// A binding of either scope.
pub(super) struct Binding {
    namespaced: bool,
}

/// `Role`.
pub(super) static ROLE: Role = Role { namespaced: true };
/// `ClusterRole`.
pub(super) static CLUSTER_ROLE: Role = Role { namespaced: false };
/// `RoleBinding`.
pub(super) static ROLE_BINDING: Binding = Binding { namespaced: true };
/// `ClusterRoleBinding`.
pub(super) static CLUSTER_ROLE_BINDING: Binding = Binding { namespaced: false };

impl Kind for Role {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("rules");
        for (i, one) in list(object, "rules").iter().enumerate() {
            rule(one, self.namespaced, &path.index(i), errors);
        }
    }

    fn name_errors(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }
}

fn rule(rule: &Value, namespaced: bool, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    if list(rule, "verbs").is_empty() {
        errors.push(FieldError::required(path.child("verbs"), "verbs must contain at least one value"));
    }
    let urls = list(rule, "nonResourceURLs");
    if !urls.is_empty() {
        let mixed =
            ["apiGroups", "resources", "resourceNames"].iter().any(|name| !list(rule, name).is_empty());
        let why = match (namespaced, mixed) {
            (true, _) => "namespaced rules cannot apply to non-resource URLs",
            (false, true) => "rules cannot apply to both regular resources and non-resource URLs",
            (false, false) => return,
        };
        errors.push(FieldError::invalid(path.child("nonResourceURLs"), urls.to_vec(), why));
        return;
    }
    if list(rule, "apiGroups").is_empty() {
        let why = "resource rules must supply at least one api group";
        errors.push(FieldError::required(path.child("apiGroups"), why));
    }
    if list(rule, "resources").is_empty() {
        let why = "resource rules must supply at least one resource";
        errors.push(FieldError::required(path.child("resources"), why));
    }
}

impl Kind for Binding {
    fn default(&self, object: &mut Value) {
        if let Some(reference) = object.get_mut("roleRef").and_then(Value::as_object_mut) {
            set_default(reference, "apiGroup", || GROUP.into());
        }
        for subject in list_mut(object, "subjects").iter_mut().filter_map(Value::as_object_mut) {
            if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
                set_default(subject, "apiGroup", || GROUP.into());
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (reference, path) = (at(object, "roleRef"), FieldPath::new("roleRef"));
        let group = text(reference, "apiGroup");
        if group != GROUP {
            errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[GROUP]));
        }
        let kinds: &[&str] = if self.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        let kind = text(reference, "kind");
        if !kinds.contains(&kind) {
            errors.push(FieldError::not_supported(path.child("kind"), kind, kinds));
        }
        let name = check::required(reference, "name", &path, errors);
        check::all(name, names::path_segment(name), &path.child("name"), errors);
        let at_subjects = FieldPath::new("subjects");
        for (i, one) in list(object, "subjects").iter().enumerate() {
            subject(one, self.namespaced, &at_subjects.index(i), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        if at(new, "roleRef") != at(old, "roleRef") {
            errors.push(FieldError::invalid("roleRef", at(new, "roleRef").clone(), "cannot change roleRef"));
        }
    }

    fn name_errors(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }
}

fn subject(subject: &Value, namespaced: bool, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let name = check::required(subject, "name", path, errors);
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                check::all(name, names::dns1123_subdomain(name), &path.child("name"), errors);
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.push(FieldError::required(path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            errors.push(FieldError::not_supported(
                path.child("kind"),
                other,
                &["ServiceAccount", "User", "Group"],
            ));
        }
    }
}
