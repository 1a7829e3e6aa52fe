//! The rules of pod specs.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use super::{containers, volumes};
use crate::kinds::{check, metadata, selector};
use crate::view::{at, flag, has, int, list, text};

/// Finds what is wrong with a pod spec, in a pod or in a template.
pub(in crate::kinds) fn validate_spec(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let claims = volumes::validate(spec, path, errors);
    containers::validate(spec, &claims, path, errors);
    check::one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    check::one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        path,
        errors,
    );
    metadata::label_map(at(spec, "nodeSelector"), &path.child("nodeSelector"), errors);
    security(spec, path, errors);
    for (name, rule) in [
        ("serviceAccountName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns1123_subdomain),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("schedulerName", names::qualified_name),
    ] {
        let value = text(spec, name);
        if !value.is_empty() {
            check::all(value, rule(value), &path.child(name), errors);
        }
    }
    if let Some(deadline) = int(spec, "activeDeadlineSeconds") {
        for why in names::in_range(deadline, 1, i64::from(i32::MAX)) {
            errors.push(FieldError::invalid(path.child("activeDeadlineSeconds"), deadline, why));
        }
    }
    let at_secrets = path.child("imagePullSecrets");
    for (i, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        check::required(secret, "name", &at_secrets.index(i), errors);
    }
    let at_aliases = path.child("hostAliases");
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let item = at_aliases.index(i);
        check::all(text(alias, "ip"), names::ip(text(alias, "ip")), &item.child("ip"), errors);
    }
    tolerations(spec, path, errors);
    scheduling(spec, path, errors);
}

/// The rules of a pod itself, on top of those of its spec.
pub(super) fn validate_pod_only(object: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    let gates = list(object, "spec.schedulingGates");
    if !gates.is_empty() && !text(object, "spec.nodeName").is_empty() && !super::is_mirror(object) {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(path.child("nodeName"), why));
    }
}

fn security(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let at_context = path.child("securityContext");
    let context = at(spec, "securityContext");
    for name in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) = int(context, name) {
            for why in names::in_range(id, 0, i64::from(i32::MAX)) {
                errors.push(FieldError::invalid(at_context.child(name), id, why));
            }
        }
    }
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(path.child("shareProcessNamespace"), true, why));
    }
    if let Some(grace) = int(spec, "terminationGracePeriodSeconds").filter(|g| *g < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path.child("terminationGracePeriodSeconds"), grace, why));
    }
}

/// Finds what is wrong with tolerations.
pub(in crate::kinds) fn tolerations(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("tolerations");
    for (i, toleration) in list(spec, "tolerations").iter().enumerate() {
        let item = path.index(i);
        let (key, operator, value) =
            (text(toleration, "key"), text(toleration, "operator"), text(toleration, "value"));
        if !key.is_empty() {
            check::all(key, names::qualified_name(key), &item.child("key"), errors);
        }
        if key.is_empty() && operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(item.child("operator"), operator, why));
        }
        if has(toleration, "tolerationSeconds") && text(toleration, "effect") != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(item.child("effect"), text(toleration, "effect"), why));
        }
        match operator {
            "" | "Equal" => check::all(value, names::label_value(value), &item.child("operator"), errors),
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(item.child("operator"), value, why));
            }
            "Exists" => {}
            other => {
                errors.push(FieldError::not_supported(item.child("operator"), other, &["Equal", "Exists"]))
            }
        }
        check::one_of(toleration, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], &item, errors);
    }
}

fn scheduling(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let at_gates = path.child("schedulingGates");
    let mut seen: Vec<&str> = Vec::new();
    for (i, gate) in list(spec, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        check::all(name, names::qualified_name(name), &at_gates.index(i), errors);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(at_gates.index(i), name));
        }
        seen.push(name);
    }
    let at_readiness = path.child("readinessGates");
    for (i, gate) in list(spec, "readinessGates").iter().enumerate() {
        let name = text(gate, "conditionType");
        check::all(name, names::qualified_name(name), &at_readiness.index(i).child("conditionType"), errors);
    }
    let at_spread = path.child("topologySpreadConstraints");
    for (i, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let item = at_spread.index(i);
        if int(constraint, "maxSkew").unwrap_or_default() < 1 {
            let skew = int(constraint, "maxSkew").unwrap_or_default();
            errors.push(FieldError::invalid(item.child("maxSkew"), skew, "must be greater than zero"));
        }
        if text(constraint, "topologyKey").is_empty() {
            errors.push(FieldError::required(item.child("topologyKey"), "can not be empty"));
        }
        let when = text(constraint, "whenUnsatisfiable");
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            let known = ["DoNotSchedule", "ScheduleAnyway"];
            errors.push(FieldError::not_supported(item.child("whenUnsatisfiable"), when, &known));
        }
        selector::validate(at(constraint, "labelSelector"), &item.child("labelSelector"), errors);
    }
    node_affinity(spec, path, errors);
}

fn node_affinity(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let required = at(spec, "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_null() {
        return;
    }
    let (affinity, node) = (path.child("affinity"), FieldPath::new("nodeAffinity"));
    let place = format!("{affinity}.{node}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    let terms = list(required, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(&place, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        for (j, expression) in list(term, "matchExpressions").iter().enumerate() {
            let item = format!("{place}[{i}].matchExpressions[{j}]");
            let values = list(expression, "values").len();
            match text(expression, "operator") {
                "In" | "NotIn" if values == 0 => errors.push(FieldError::required(
                    format!("{item}.values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                )),
                "Exists" | "DoesNotExist" if values > 0 => errors.push(FieldError::forbidden(
                    format!("{item}.values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )),
                "Gt" | "Lt" if values != 1 => errors.push(FieldError::required(
                    format!("{item}.values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                )),
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
                other => {
                    errors.push(FieldError::invalid(
                        format!("{item}.operator"),
                        other,
                        "not a valid selector operator",
                    ));
                }
            }
        }
    }
}
