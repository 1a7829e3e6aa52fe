//! The rules of a pod's containers.

use coracle_api::quantity::Quantity;
use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use crate::kinds::check;
use crate::view::{at, entries, has, int, list, text};

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HANDLERS: [&str; 4] = ["exec", "grpc", "httpGet", "tcpSocket"];
/// What a variable may be taken from.
const SOURCES: [&str; 5] = ["configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef"];
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Finds what is wrong with the containers of all three lists; `volumes` are the pod's volumes.
pub(super) fn validate(spec: &Value, volumes: &[&str], path: &FieldPath<'_>, errors: &mut FieldErrors) {
    if list(spec, "containers").is_empty() {
        errors.push(FieldError::required(path.child("containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        let items = path.child(kind);
        for (i, container) in list(spec, kind).iter().enumerate() {
            let item = items.index(i);
            name(container, &mut seen, &item, errors);
            one(container, volumes, &item, errors);
            if kind == "initContainers" {
                init(container, &item, errors);
            }
        }
    }
    host_ports(spec, path, errors);
}

fn name<'a>(container: &'a Value, seen: &mut Vec<&'a str>, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let name = check::required(container, "name", path, errors);
    if name.is_empty() {
        return;
    }
    check::all(name, names::dns1123_label(name), &path.child("name"), errors);
    if seen.contains(&name) {
        errors.push(FieldError::duplicate(path.child("name"), name));
    }
    seen.push(name);
}

fn one(container: &Value, volumes: &[&str], path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let image = text(container, "image");
    if image.is_empty() {
        errors.push(FieldError::required(path.child("image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(path.child("image"), image, why));
    }
    check::one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    check::one_of(container, "terminationMessagePolicy", &["FallbackToLogsOnError", "File"], path, errors);
    ports(container, path, errors);
    env(container, path, errors);
    mounts(container, volumes, path, errors);
    resources(at(container, "resources"), &path.child("resources"), errors);
    for name in PROBES {
        let probe = at(container, name);
        if !probe.is_null() {
            self::probe(probe, name != "readinessProbe", &path.child(name), errors);
        }
    }
    let at_hooks = path.child("lifecycle");
    for name in ["postStart", "preStop"] {
        let hook = at(container, "lifecycle").get(name).unwrap_or(&Value::Null);
        if !hook.is_null() {
            handler(hook, &["exec", "httpGet", "sleep", "tcpSocket"], &at_hooks.child(name), errors);
        }
    }
}

fn init(container: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    // A sidecar is an init container that is restarted always: it may have what others may not.
    if text(container, "restartPolicy") == "Always" {
        return;
    }
    for name in PROBES.into_iter().chain(["lifecycle"]) {
        if has(container, name) {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(path.child(name), why));
        }
    }
}

fn ports(container: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("ports");
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in list(container, "ports").iter().enumerate() {
        let item = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            let fine = messages.is_empty();
            check::all(name, messages, &item.child("name"), errors);
            if fine && seen.contains(&name) {
                errors.push(FieldError::duplicate(item.child("name"), name));
            }
            seen.push(name);
        }
        match int(port, "containerPort").unwrap_or_default() {
            0 => errors.push(FieldError::required(item.child("containerPort"), "")),
            number => check::port(number, &item.child("containerPort"), errors),
        }
        if let Some(number) = int(port, "hostPort").filter(|n| *n != 0) {
            check::port(number, &item.child("hostPort"), errors);
        }
        match text(port, "protocol") {
            "" => errors.push(FieldError::required(item.child("protocol"), "")),
            _ => check::one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &item, errors),
        }
    }
}

fn host_ports(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let host_network = crate::view::flag(spec, "hostNetwork");
    let mut taken: Vec<(i64, &str, &str)> = Vec::new();
    for kind in ["containers", "initContainers"] {
        let lists = path.child(kind);
        for (i, container) in list(spec, kind).iter().enumerate() {
            let item = lists.index(i);
            let ports = item.child("ports");
            for (j, port) in list(container, "ports").iter().enumerate() {
                let (inner, outer) = (int(port, "containerPort"), int(port, "hostPort").unwrap_or_default());
                let at_port = ports.index(j);
                if host_network && kind == "containers" && inner != Some(outer) {
                    let why = "must match `hostPort` when `hostNetwork` is true";
                    errors.push(FieldError::invalid(
                        at_port.child("containerPort"),
                        inner.unwrap_or_default(),
                        why,
                    ));
                }
                let key = (outer, text(port, "protocol"), text(port, "hostIP"));
                if outer != 0 && kind == "containers" {
                    if taken.contains(&key) {
                        let value = format!("{}/{}", key.1, outer);
                        errors.push(FieldError::duplicate(at_port.child("hostPort"), value));
                    }
                    taken.push(key);
                }
            }
        }
    }
}

fn env(container: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let at_env = path.child("env");
    for (i, variable) in list(container, "env").iter().enumerate() {
        let item = at_env.index(i);
        let name = check::required(variable, "name", &item, errors);
        if !name.is_empty() {
            check::all(name, names::env_var_name(name), &item.child("name"), errors);
        }
        if has(variable, "valueFrom") {
            value_from(variable, &item.child("valueFrom"), errors);
        }
    }
    let at_from = path.child("envFrom");
    for (i, source) in list(container, "envFrom").iter().enumerate() {
        let item = at_from.index(i);
        let given: Vec<&str> = ["configMapRef", "secretRef"].into_iter().filter(|n| has(source, n)).collect();
        match given.as_slice() {
            [] => errors.push(FieldError::invalid(
                at_from,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            [_, _, ..] => {
                errors.push(FieldError::invalid(
                    at_from,
                    "",
                    "may not have more than one field specified at a time",
                ));
            }
            [_] => {}
        }
        for kind in given {
            let reference = item.child(kind);
            let name = check::required(at(source, kind), "name", &reference, errors);
            if !name.is_empty() {
                check::all(name, names::dns1123_subdomain(name), &reference.child("name"), errors);
            }
        }
    }
}

fn value_from(variable: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let source = at(variable, "valueFrom");
    let given: Vec<&str> = SOURCES.into_iter().filter(|name| has(source, name)).collect();
    if !text(variable, "value").is_empty() && !given.is_empty() {
        errors.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
    }
    match given.len() {
        0 => {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.push(FieldError::invalid(path, "", why));
        }
        1 => {}
        _ => {
            errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time"))
        }
    }
    if given.len() != 1 {
        return;
    }
    let (kind, reference) = (given[0], at(source, given[0]));
    let place = path.child(kind);
    match kind {
        "fieldRef" => {
            let field = check::required(reference, "fieldPath", &place, errors);
            let subscripted = ["metadata.labels['", "metadata.annotations['"]
                .iter()
                .any(|p| field.starts_with(p) && field.ends_with("']"));
            if !field.is_empty() && !subscripted && !FIELDS.contains(&field) {
                let why = format!("error converting fieldPath: field label not supported: {field}");
                errors.push(FieldError::invalid(place.child("fieldPath"), field, why));
            }
        }
        "resourceFieldRef" => {
            let resource = check::required(reference, "resource", &place, errors);
            let known = [
                "limits.cpu",
                "limits.ephemeral-storage",
                "limits.memory",
                "requests.cpu",
                "requests.ephemeral-storage",
                "requests.memory",
            ];
            let pages =
                resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
            if !resource.is_empty() && !pages && !known.contains(&resource) {
                errors.push(FieldError::not_supported(place.child("resource"), resource, &known));
            }
        }
        "configMapKeyRef" | "secretKeyRef" => {
            check::required(reference, "name", &place, errors);
            let key = check::required(reference, "key", &place, errors);
            if !key.is_empty() {
                check::all(key, names::config_map_key(key), &place.child("key"), errors);
            }
        }
        _ => {}
    }
}

fn mounts(container: &Value, volumes: &[&str], path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("volumeMounts");
    let mut seen: Vec<&str> = Vec::new();
    for (i, mount) in list(container, "volumeMounts").iter().enumerate() {
        let item = path.index(i);
        let name = check::required(mount, "name", &item, errors);
        if !name.is_empty() && !volumes.contains(&name) {
            errors.push(FieldError::not_found(item.child("name"), name));
        }
        let place = check::required(mount, "mountPath", &item, errors);
        if !place.is_empty() && seen.contains(&place) {
            errors.push(FieldError::invalid(item.child("mountPath"), place, "must be unique"));
        }
        seen.push(place);
        let sub = text(mount, "subPath");
        if sub.starts_with('/') {
            errors.push(FieldError::invalid(item.child("subPath"), sub, "must be a relative path"));
        }
        if sub.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(item.child("subPath"), sub, "must not contain '..'"));
        }
        let propagation = ["Bidirectional", "HostToContainer", "None"];
        check::one_of(mount, "mountPropagation", &propagation, &item, errors);
    }
}

/// Finds what is wrong with resource requirements.
fn resources(resources: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    for (name, value) in entries(resources, "limits") {
        resource_name(name, &limits.key(name), errors);
        check::quantity(value, &limits.key(name), errors);
    }
    for (name, value) in entries(resources, "requests") {
        let place = requests.key(name);
        resource_name(name, &place, errors);
        let Some(request) = check::quantity(value, &place, errors) else { continue };
        let limit = at(resources, "limits").get(name).and_then(|v| Quantity::from_value(v).ok());
        if let Some(limit) = limit.filter(|limit| request > *limit) {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(requests, request.to_string(), why));
        }
    }
}

fn resource_name(name: &str, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let messages = names::qualified_name(name);
    let fine = messages.is_empty();
    check::all(name, messages, path, errors);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if fine && !standard && !name.contains('/') {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
}

fn probe(probe: &Value, success_is_one: bool, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    handler(probe, &HANDLERS, path, errors);
    for name in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        check::not_negative(probe, name, path, errors);
    }
    let threshold = int(probe, "successThreshold").unwrap_or(1);
    if success_is_one && threshold != 1 {
        errors.push(FieldError::invalid(path.child("successThreshold"), threshold, "must be 1"));
    }
    if int(probe, "terminationGracePeriodSeconds").is_some_and(|n| n <= 0) {
        let value = int(probe, "terminationGracePeriodSeconds").unwrap_or_default();
        errors.push(FieldError::invalid(
            path.child("terminationGracePeriodSeconds"),
            value,
            "must be greater than 0",
        ));
    }
}

fn handler(handler: &Value, kinds: &[&str], path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let mut count = 0;
    for kind in kinds.iter().filter(|kind| has(handler, kind)) {
        count += 1;
        let place = path.child(kind);
        if count > 1 {
            errors.push(FieldError::forbidden(place, "may not specify more than 1 handler type"));
            continue;
        }
        let action = at(handler, kind);
        match *kind {
            "exec" if list(action, "command").is_empty() => {
                errors.push(FieldError::required(place.child("command"), ""))
            }
            "httpGet" => {
                if text(action, "path").is_empty() {
                    errors.push(FieldError::required(place.child("path"), ""));
                }
                check::port_or_name(at(action, "port"), &place.child("port"), errors);
                check::one_of(action, "scheme", &["HTTP", "HTTPS"], &place, errors);
            }
            "tcpSocket" => check::port_or_name(at(action, "port"), &place.child("port"), errors),
            "grpc" => check::port(int(action, "port").unwrap_or_default(), &place.child("port"), errors),
            _ => {}
        }
    }
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}
