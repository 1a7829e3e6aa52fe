//! `core/v1 Endpoints` and `discovery.k8s.io/v1 EndpointSlice`.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use super::{Kind, check, lifecycle};
use crate::view::{int, list, text};

/// Endpoints that a slice may hold.
const ENDPOINTS_MAX: usize = 1000;
/// Addresses that an endpoint may have.
const ADDRESSES_MAX: usize = 100;

/// `core/v1 Endpoints`.
pub(super) struct Endpoints;

impl Kind for Endpoints {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("subsets");
        for (i, subset) in list(object, "subsets").iter().enumerate() {
            let item = path.index(i);
            if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
                errors.push(FieldError::required(item, "must specify `addresses` or `notReadyAddresses`"));
            }
            for kind in ["addresses", "notReadyAddresses"] {
                let at_addresses = item.child(kind);
                for (j, address) in list(subset, kind).iter().enumerate() {
                    let ip = text(address, "ip");
                    check::all(ip, names::ip(ip), &at_addresses.index(j).child("ip"), errors);
                }
            }
            let at_ports = item.child("ports");
            for (j, port) in list(subset, "ports").iter().enumerate() {
                let number = int(port, "port").unwrap_or_default();
                check::port(number, &at_ports.index(j).child("port"), errors);
            }
        }
    }
}

/// `discovery.k8s.io/v1 EndpointSlice`.
pub(super) struct EndpointSlice;

impl Kind for EndpointSlice {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let root = FieldPath::ROOT;
        let family = text(object, "addressType");
        if family.is_empty() {
            errors.push(FieldError::required("addressType", ""));
        }
        check::one_of(object, "addressType", &["FQDN", "IPv4", "IPv6"], &root, errors);
        let path = FieldPath::new("endpoints");
        let endpoints = list(object, "endpoints");
        if endpoints.len() > ENDPOINTS_MAX {
            errors.push(FieldError::too_many(path, endpoints.len(), ENDPOINTS_MAX));
            return;
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            self::endpoint(endpoint, family, &path.index(i), errors);
        }
        let at_ports = FieldPath::new("ports");
        let mut seen: Vec<&str> = Vec::new();
        for (i, port) in list(object, "ports").iter().enumerate() {
            let item = at_ports.index(i);
            let name = text(port, "name");
            if !name.is_empty() {
                check::all(name, names::dns1123_label(name), &item.child("name"), errors);
            }
            if seen.contains(&name) {
                errors.push(FieldError::duplicate(item.child("name"), name));
            }
            seen.push(name);
            check::one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &item, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(new, old, "addressType", errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn is_changed(&self, new: &Value, old: &Value) -> bool {
        let labels = |object: &Value| coracle_api::meta::labels(object).cloned();
        lifecycle::differs(new, old) || labels(new) != labels(old)
    }
}

fn endpoint(endpoint: &Value, family: &str, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("addresses");
    let addresses = list(endpoint, "addresses");
    match addresses.len() {
        0 => errors.push(FieldError::required(path, "must contain at least 1 address")),
        n if n > ADDRESSES_MAX => errors.push(FieldError::too_many(path, n, ADDRESSES_MAX)),
        _ => {}
    }
    for (i, address) in addresses.iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        let messages = match family {
            "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                vec!["must be a valid IPv4 address".to_owned()]
            }
            "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                vec!["must be a valid IPv6 address".to_owned()]
            }
            "FQDN" => names::dns1123_subdomain(address),
            _ => Vec::new(),
        };
        let refused = messages.is_empty() && is_local(address);
        check::all(address, messages, &path.index(i), errors);
        if refused {
            let why = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
            errors.push(FieldError::invalid(path.index(i), address, why));
        }
    }
}

fn is_local(address: &str) -> bool {
    address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
