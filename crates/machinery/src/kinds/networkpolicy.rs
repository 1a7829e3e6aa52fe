//! `networking.k8s.io/v1 NetworkPolicy`.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use super::{Kind, check, selector};
use crate::view::{at, has, int, list};

/// `networking.k8s.io/v1 NetworkPolicy`.
pub(super) struct NetworkPolicy;

impl Kind for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|e| !e.is_empty());
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        crate::view::set_default(spec, "policyTypes", || types);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        selector::validate(at(spec, "podSelector"), &path.child("podSelector"), errors);
        for (kind, side) in [("ingress", "from"), ("egress", "to")] {
            let lists = path.child(kind);
            for (i, rule) in list(spec, kind).iter().enumerate() {
                let item = lists.index(i);
                let at_ports = item.child("ports");
                for (j, port) in list(rule, "ports").iter().enumerate() {
                    self::port(port, &at_ports.index(j), errors);
                }
                let at_peers = item.child(side);
                for (j, peer) in list(rule, side).iter().enumerate() {
                    self::peer(peer, &at_peers.index(j), errors);
                }
            }
        }
        let at_types = path.child("policyTypes");
        for (i, one) in list(spec, "policyTypes").iter().enumerate() {
            let one = one.as_str().unwrap_or_default();
            if !matches!(one, "Ingress" | "Egress") {
                errors.push(FieldError::not_supported(at_types.index(i), one, &["Egress", "Ingress"]));
            }
        }
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn port(port: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    check::one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
    if has(port, "port") {
        check::port_or_name(at(port, "port"), &path.child("port"), errors);
    }
    if let Some(end) = int(port, "endPort") {
        let place = path.child("endPort");
        match at(port, "port") {
            Value::Number(start) if start.as_i64().is_some_and(|s| end < s) => {
                errors.push(FieldError::invalid(place, end, "must be greater than or equal to `port`"));
            }
            Value::Number(_) => check::port(end, &place, errors),
            Value::String(_) => errors.push(FieldError::invalid(
                place,
                end,
                "may not be specified when `port` is non-numeric",
            )),
            _ => errors.push(FieldError::invalid(
                place,
                end,
                "may not be specified when `port` is not specified",
            )),
        }
    }
}

fn peer(peer: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let selectors = ["podSelector", "namespaceSelector"];
    for name in selectors {
        selector::validate(at(peer, name), &path.child(name), errors);
    }
    let block = at(peer, "ipBlock");
    let chosen = selectors.iter().any(|name| has(peer, name));
    if block.is_null() {
        if !chosen {
            errors.push(FieldError::required(path, "must specify a peer"));
        }
        return;
    }
    let place = path.child("ipBlock");
    if chosen {
        errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
    }
    let cidr = check::required(block, "cidr", &place, errors);
    if !cidr.is_empty() {
        check::all(cidr, names::cidr(cidr), &place.child("cidr"), errors);
    }
    let excepts = place.child("except");
    for (i, except) in list(block, "except").iter().enumerate() {
        let except = except.as_str().unwrap_or_default();
        check::all(except, names::cidr(except), &excepts.index(i), errors);
    }
}
