//! `core/v1 Service`. Addresses and node ports are allocated by the API server's registry after
//! this; what can be said without knowing what is taken is here.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::{Map, Value, json};

use super::{Kind, check, metadata};
use crate::view::{at, has, int, list, list_mut, set_default, text};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// `core/v1 Service`.
pub(super) struct Service;

impl Kind for Service {
    fn default(&self, object: &mut Value) {
        for port in list_mut(object, "spec.ports").iter_mut().filter_map(Value::as_object_mut) {
            let number = port.get("port").cloned().unwrap_or_default();
            let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
                || port.get("targetPort") == Some(&json!(0))
                || port.get("targetPort") == Some(&json!(""));
            if unset {
                port.insert("targetPort".to_owned(), number);
            }
        }
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            default_spec(spec);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // A client that leaves the address out keeps what there is.
        let same_type = text(new, "spec.type") != "ExternalName" && text(old, "spec.type") != "ExternalName";
        let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
        if !same_type {
            return;
        }
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let stored = at(old, "spec").get(name).filter(|v| !v.is_null()).cloned();
            if let (true, Some(stored)) = (is_empty(spec.get(name)), stored) {
                spec.insert(name.to_owned(), stored);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        check::one_of(spec, "type", &TYPES, &path, errors);
        check::one_of(spec, "sessionAffinity", &["ClientIP", "None"], &path, errors);
        check::one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], &path, errors);
        check::one_of(spec, "internalTrafficPolicy", &["Cluster", "Local"], &path, errors);
        let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
        check::one_of(spec, "ipFamilyPolicy", &policies, &path, errors);
        metadata::label_map(at(spec, "selector"), &path.child("selector"), errors);
        let headless = text(spec, "clusterIP") == "None";
        match text(spec, "type") {
            "ExternalName" => external_name(spec, &path, errors),
            _ if list(spec, "ports").is_empty() && !headless => {
                errors.push(FieldError::required(path.child("ports"), ""));
            }
            "NodePort" | "LoadBalancer" if headless => {
                let why = format!("may not be set to 'None' for {} services", text(spec, "type"));
                errors.push(FieldError::invalid(path.child("clusterIPs").index(0), "None", why));
            }
            _ => {}
        }
        ports(spec, &path, errors);
        affinity(spec, &path, errors);
        let ip = text(spec, "clusterIP");
        if !ip.is_empty() && !headless {
            check::all(ip, names::ip(ip), &path.child("clusterIPs").index(0), errors);
        }
        let at_external = path.child("externalIPs");
        for (i, ip) in list(spec, "externalIPs").iter().enumerate() {
            let ip = ip.as_str().unwrap_or_default();
            check::all(ip, names::ip(ip), &at_external.index(i), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let name = |object| text(object, "spec.type") == "ExternalName";
        if name(new) || name(old) {
            return;
        }
        for (field, path) in [("clusterIP", "spec.clusterIPs[0]"), ("ipFamilies", "spec.ipFamilies[0]")] {
            let (new, old) = (at(new, "spec").get(field), at(old, "spec").get(field));
            if old.is_some_and(|v| !v.is_null()) && new != old && !(field == "ipFamilies" && new.is_none()) {
                let why = "may not change once set";
                errors.push(FieldError::invalid(path, new.cloned().unwrap_or_default(), why));
            }
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn name_errors(&self, name: &str) -> Vec<String> {
        names::dns1035_label(name)
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let field = |path: &'static str| (path, text(object, path).to_owned());
        vec![field("spec.clusterIP"), field("spec.type")]
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn default_spec(spec: &mut Map<String, Value>) {
    let ty = spec.get("type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned();
    if spec.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP") {
        let config = spec.entry("sessionAffinityConfig").or_insert_with(|| json!({}));
        if let Some(client) = crate::view::object_mut(config, "clientIP") {
            set_default(client, "timeoutSeconds", || 10_800.into());
        }
    } else {
        spec.remove("sessionAffinityConfig");
    }
    if ty == "ExternalName" {
        return;
    }
    set_default(spec, "internalTrafficPolicy", || "Cluster".into());
    set_default(spec, "ipFamilyPolicy", || "SingleStack".into());
    set_default(spec, "ipFamilies", || json!(["IPv4"]));
    if ty == "NodePort" || ty == "LoadBalancer" {
        set_default(spec, "externalTrafficPolicy", || "Cluster".into());
    }
    if ty == "LoadBalancer" {
        set_default(spec, "allocateLoadBalancerNodePorts", || true.into());
    }
    // The list form and its first item are one field with two names.
    let first = spec.get("clusterIPs").and_then(|l| l.get(0)).cloned();
    match (is_empty(spec.get("clusterIP")), first) {
        (true, Some(first)) => {
            spec.insert("clusterIP".to_owned(), first);
        }
        (false, None) => {
            let ip = spec.get("clusterIP").cloned().unwrap_or_default();
            spec.insert("clusterIPs".to_owned(), Value::Array(vec![ip]));
        }
        _ => {}
    }
}

fn external_name(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let name = text(spec, "externalName").trim_end_matches('.');
    if name.is_empty() {
        errors.push(FieldError::required(path.child("externalName"), ""));
    } else {
        check::all(name, names::dns1123_subdomain(name), &path.child("externalName"), errors);
    }
    if !matches!(text(spec, "clusterIP"), "" | "None") {
        let why = "may not be set for ExternalName services";
        errors.push(FieldError::forbidden(path.child("clusterIPs").index(0), why));
    }
}

fn ports(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("ports");
    let all = list(spec, "ports");
    let (mut names_seen, mut seen): (Vec<&str>, Vec<(i64, &str)>) = (Vec::new(), Vec::new());
    let mut node_ports: Vec<(i64, &str)> = Vec::new();
    let exposes = matches!(text(spec, "type"), "NodePort" | "LoadBalancer");
    for (i, port) in all.iter().enumerate() {
        let item = path.index(i);
        let name = text(port, "name");
        if name.is_empty() && all.len() > 1 {
            errors.push(FieldError::required(item.child("name"), ""));
        } else if !name.is_empty() {
            check::all(name, names::dns1123_label(name), &item.child("name"), errors);
            if names_seen.contains(&name) {
                errors.push(FieldError::duplicate(item.child("name"), name));
            }
            names_seen.push(name);
        }
        let number = int(port, "port").unwrap_or_default();
        check::port(number, &item.child("port"), errors);
        let protocol = text(port, "protocol");
        match protocol {
            "" => errors.push(FieldError::required(item.child("protocol"), "")),
            _ => check::one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &item, errors),
        }
        check::port_or_name(at(port, "targetPort"), &item.child("targetPort"), errors);
        if seen.contains(&(number, protocol)) {
            errors.push(FieldError::duplicate(item, json!({"port": number, "protocol": protocol})));
        }
        seen.push((number, protocol));
        let node_port = int(port, "nodePort").unwrap_or_default();
        if node_port != 0 && !exposes {
            let why = format!("may not be used when `type` is '{}'", text(spec, "type"));
            errors.push(FieldError::forbidden(item.child("nodePort"), why));
        } else if node_port != 0 && node_ports.contains(&(node_port, protocol)) {
            errors.push(FieldError::duplicate(item.child("nodePort"), node_port));
        }
        node_ports.push((node_port, protocol));
    }
}

fn affinity(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    if text(spec, "sessionAffinity") != "ClientIP" || !has(spec, "sessionAffinityConfig.clientIP") {
        return;
    }
    let seconds = int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds").unwrap_or_default();
    if !(1..=86_400).contains(&seconds) {
        let place = format!("{path}.sessionAffinityConfig.clientIP.timeoutSeconds");
        errors.push(FieldError::invalid(place, seconds, "must be greater than 0 and less than 86400"));
    }
}
