//! Services, endpoints, ingresses and policies.

use coracle_api::meta;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::age;
use super::workload::{labels, or_none, selector};
use crate::view::{at, int, list, text};

/// Endpoints that a cell lists before it says how many more there are.
const SHOWN_MAX: usize = 3;

/// Name, Type, Cluster-IP, External-IP, Port(s), Age, Selector.
pub(super) fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "spec.ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (int(port, "port").unwrap_or_default(), text(port, "protocol"));
            match int(port, "nodePort").unwrap_or_default() {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    vec![
        json!(meta::name(object)),
        json!(text(object, "spec.type")),
        json!(or_none(text(object, "spec.clusterIP"))),
        json!(external(object)),
        json!(or_none(&ports.join(","))),
        json!(age(object, now)),
        json!(labels(object, "spec.selector")),
    ]
}

fn external(object: &Value) -> String {
    let balancers: Vec<&str> = list(object, "status.loadBalancer.ingress")
        .iter()
        .map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") })
        .collect();
    let ips: Vec<&str> = list(object, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match text(object, "spec.type") {
        "ExternalName" => text(object, "spec.externalName").to_owned(),
        "LoadBalancer" => {
            let all: Vec<&str> = balancers.into_iter().chain(ips).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => or_none(&ips.join(",")).to_owned(),
    }
}

fn shortened(all: &[String]) -> String {
    if all.is_empty() {
        return "<none>".to_owned();
    }
    let shown = all[..all.len().min(SHOWN_MAX)].join(",");
    if all.len() > SHOWN_MAX { format!("{shown} + {} more...", all.len() - SHOWN_MAX) } else { shown }
}

/// Name, Endpoints, Age.
pub(super) fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(object, "subsets") {
        let ips = list(subset, "addresses").iter().map(|a| text(a, "ip"));
        match list(subset, "ports") {
            [] => all.extend(ips.map(str::to_owned)),
            ports => {
                for ip in ips {
                    all.extend(ports.iter().map(|p| join(ip, int(p, "port").unwrap_or_default())));
                }
            }
        }
    }
    vec![json!(meta::name(object)), json!(shortened(&all)), json!(age(object, now))]
}

fn join(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Name, AddressType, Ports, Endpoints, Age.
pub(super) fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "ports")
        .iter()
        .map(|p| match int(p, "port") {
            Some(port) => port.to_string(),
            None => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> = list(object, "endpoints")
        .iter()
        .flat_map(|e| list(e, "addresses"))
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let ports = if ports.is_empty() { "<unset>".to_owned() } else { shortened(&ports) };
    let addresses = if addresses.is_empty() { "<unset>".to_owned() } else { shortened(&addresses) };
    vec![
        json!(meta::name(object)),
        json!(text(object, "addressType")),
        json!(ports),
        json!(addresses),
        json!(age(object, now)),
    ]
}

/// Name, Class, Hosts, Address, Ports, Age.
pub(super) fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let hosts: Vec<&str> =
        list(object, "spec.rules").iter().map(|r| text(r, "host")).filter(|h| !h.is_empty()).collect();
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        n if n > SHOWN_MAX => format!("{} + {} more...", hosts[..SHOWN_MAX].join(","), n - SHOWN_MAX),
        _ => hosts.join(","),
    };
    let addresses: Vec<&str> = list(object, "status.loadBalancer.ingress")
        .iter()
        .map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") })
        .collect();
    let ports = if list(object, "spec.tls").is_empty() { "80" } else { "80, 443" };
    vec![
        json!(meta::name(object)),
        json!(or_none(text(object, "spec.ingressClassName"))),
        json!(hosts),
        json!(addresses.join(",")),
        json!(ports),
        json!(age(object, now)),
    ]
}

/// Name, Controller, Parameters, Age.
pub(super) fn ingress_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = at(object, "spec.parameters");
    let shown = if parameters.is_null() {
        "<none>".to_owned()
    } else {
        let group = text(parameters, "apiGroup");
        let kind = text(parameters, "kind");
        let dot = if group.is_empty() { "" } else { "." };
        format!("{kind}{dot}{group}/{}", text(parameters, "name"))
    };
    vec![
        json!(meta::name(object)),
        json!(text(object, "spec.controller")),
        json!(shown),
        json!(age(object, now)),
    ]
}

/// Name, Pod-Selector, Age.
pub(super) fn network_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(meta::name(object)), json!(selector(at(object, "spec.podSelector"))), json!(age(object, now))]
}

/// Name, ParentRef.
pub(super) fn ip_address(object: &Value, _now: Timestamp) -> Vec<Value> {
    let parts: Vec<&str> = ["resource", "namespace", "name"]
        .into_iter()
        .map(|field| text(at(object, "spec.parentRef"), field))
        .filter(|part| !part.is_empty())
        .collect();
    vec![json!(meta::name(object)), json!(or_none(&parts.join("/")))]
}

/// Name, CIDRs, Age.
pub(super) fn service_cidr(object: &Value, now: Timestamp) -> Vec<Value> {
    let cidrs: Vec<&str> = list(object, "spec.cidrs").iter().filter_map(Value::as_str).collect();
    vec![json!(meta::name(object)), json!(cidrs.join(",")), json!(age(object, now))]
}
