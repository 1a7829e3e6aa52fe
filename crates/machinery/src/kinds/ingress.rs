//! `networking.k8s.io/v1 Ingress`.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use super::{Kind, check};
use crate::view::{at, has, int, list, text};

/// `networking.k8s.io/v1 Ingress`.
pub(super) struct Ingress;

impl Kind for Ingress {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        let rules = list(spec, "rules");
        if rules.is_empty() && !has(spec, "defaultBackend") {
            let why = "either `defaultBackend` or `rules` must be specified";
            errors.push(FieldError::invalid(path, list(spec, "rules").to_vec(), why));
        }
        if has(spec, "defaultBackend") {
            backend(at(spec, "defaultBackend"), &path.child("defaultBackend"), errors);
        }
        let at_rules = path.child("rules");
        for (i, rule) in rules.iter().enumerate() {
            let item = at_rules.index(i);
            host(text(rule, "host"), &item.child("host"), errors);
            let http = item.child("http");
            let at_paths = http.child("paths");
            let paths = list(rule, "http.paths");
            if has(rule, "http") && paths.is_empty() {
                errors.push(FieldError::required(at_paths, ""));
            }
            for (j, one) in paths.iter().enumerate() {
                self::path(one, &at_paths.index(j), errors);
            }
        }
        let at_tls = path.child("tls");
        for (i, tls) in list(spec, "tls").iter().enumerate() {
            let item = at_tls.index(i);
            let hosts = item.child("hosts");
            for (j, name) in list(tls, "hosts").iter().enumerate() {
                host(name.as_str().unwrap_or_default(), &hosts.index(j), errors);
            }
        }
        let class = text(spec, "ingressClassName");
        if has(spec, "ingressClassName") {
            check::all(class, names::dns1123_subdomain(class), &path.child("ingressClassName"), errors);
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn host(host: &str, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    if host.is_empty() {
        return;
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
    } else if host.contains('*') {
        check::all(host, names::wildcard_dns1123_subdomain(host), path, errors);
    } else {
        check::all(host, names::dns1123_subdomain(host), path, errors);
    }
}

fn path(one: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let place = path.child("path");
    let value = text(one, "path");
    match text(one, "pathType") {
        "" => errors.push(FieldError::required(path.child("pathType"), "pathType must be specified")),
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                errors.push(FieldError::invalid(place, value, "must be an absolute path"));
            }
            for banned in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(banned) {
                    errors.push(FieldError::invalid(place, value, format!("must not contain '{banned}'")));
                }
            }
            for banned in ["/..", "/."] {
                if value.ends_with(banned) {
                    errors.push(FieldError::invalid(place, value, format!("cannot end with '{banned}'")));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                errors.push(FieldError::invalid(place, value, "must be an absolute path"));
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(FieldError::not_supported(path.child("pathType"), other, &known));
        }
    }
    backend(at(one, "backend"), &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let (service, resource) = (at(backend, "service"), at(backend, "resource"));
    match (service.is_null(), resource.is_null()) {
        (false, false) => {
            let why = "cannot set both resource and service backends";
            errors.push(FieldError::invalid(path, "", why));
        }
        (true, true) => {
            errors.push(FieldError::required(path, "resource or service backend is required"));
        }
        (true, false) => {
            check::required(resource, "kind", &path.child("resource"), errors);
            check::required(resource, "name", &path.child("resource"), errors);
        }
        (false, true) => {
            let place = path.child("service");
            let name = check::required(service, "name", &place, errors);
            if !name.is_empty() {
                check::all(name, names::dns1035_label(name), &place.child("name"), errors);
            }
            let (port, number) =
                (text(service, "port.name"), int(service, "port.number").unwrap_or_default());
            let at_port = place.child("port");
            match (port.is_empty(), number) {
                (true, 0) => errors.push(FieldError::required(place, "port name or number is required")),
                (true, number) => check::port(number, &at_port.child("number"), errors),
                (false, 0) => check::all(port, names::port_name(port), &at_port.child("name"), errors),
                (false, _) => {
                    errors.push(FieldError::invalid(place, "", "cannot set both port name & port number"))
                }
            }
        }
    }
}
