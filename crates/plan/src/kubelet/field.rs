//! What pods may learn about themselves: `fieldRef` and `resourceFieldRef`, in environments
//! and in downward API files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use super::quantity::{milli, units};
use super::view::NodeFacts;

/// A selector that cannot be answered, as the user will read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The path names nothing that pods can refer to.
    #[error("unsupported fieldPath: {0}")]
    Path(String),
    /// The resource is not one that pods can refer to.
    #[error("unsupported resource {0}")]
    Resource(String),
    /// The selector names a container that the pod does not have.
    #[error("container {0} not found")]
    Container(String),
    /// The divisor is no positive quantity.
    #[error("invalid divisor {0}")]
    Divisor(String),
}

/// Addresses that are known only once a pod has a sandbox.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addresses<'a> {
    /// The pod's addresses, the main one first.
    pub pod: &'a [String],
}

/// The text that `path` selects.
pub fn field(
    path: &str,
    pod: &Pod,
    node: &NodeFacts,
    addresses: Addresses<'_>,
) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(FieldError::Path(path.to_owned())),
        };
        return Ok(text(values.and_then(|v| v.get(key))));
    }
    Ok(match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => node.name.clone(),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => text(node.host_ips.first()),
        "status.hostIPs" => node.host_ips.join(","),
        "status.podIP" => text(addresses.pod.first()),
        "status.podIPs" => addresses.pod.join(","),
        _ => return Err(FieldError::Path(path.to_owned())),
    })
}

/// The number that `selector` selects, as text. A limit that is not set is the node's
/// allocatable amount; a request that is not set is the limit, if there is one, else 0.
pub fn resource(
    selector: &ResourceFieldSelector,
    pod: &Pod,
    own: Option<&Container>,
    node: &NodeFacts,
) -> Result<String, FieldError> {
    let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => find(pod, name).ok_or_else(|| FieldError::Container(name.to_owned()))?,
        None => own.ok_or_else(|| FieldError::Container(String::new()))?,
    };
    let unknown = || FieldError::Resource(selector.resource.clone());
    let (list, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let (scale, whole): (fn(&Wire) -> Option<i128>, i128) = match name {
        "cpu" => (milli, node.allocatable_cpu_milli),
        "memory" => (to_milli, node.allocatable_memory.saturating_mul(1000)),
        "ephemeral-storage" => (to_milli, node.allocatable_ephemeral.saturating_mul(1000)),
        _ => return Err(unknown()),
    };
    let resources = container.resources.as_ref();
    let limit = resources.and_then(|r| r.limits.as_ref()?.get(name)).and_then(scale);
    let request = resources.and_then(|r| r.requests.as_ref()?.get(name)).and_then(scale);
    let amount = match list {
        "limits" => limit.unwrap_or(whole),
        "requests" => request.or(limit).unwrap_or(0),
        _ => return Err(unknown()),
    };
    let divisor = divisor(selector)?;
    // Rounded up, as Kubernetes does.
    Ok(((amount + divisor - 1) / divisor).to_string())
}

fn to_milli(quantity: &Wire) -> Option<i128> {
    units(quantity).and_then(|u| u.checked_mul(1000))
}

/// The divisor in thousandths; 1 when there is none or it is zero.
fn divisor(selector: &ResourceFieldSelector) -> Result<i128, FieldError> {
    let Some(quantity) = &selector.divisor else { return Ok(1000) };
    match milli(quantity) {
        Some(0) => Ok(1000),
        Some(value) if value > 0 => Ok(value),
        _ => Err(FieldError::Divisor(quantity.0.clone())),
    }
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    super::view::containers(spec).map(|(_, c)| c).find(|c| c.name == name)
}

/// Splits `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?;
    let key = key.strip_prefix('\'').and_then(|k| k.strip_suffix('\'')).unwrap_or(key);
    Some((map, key))
}

/// `key="value"` lines, sorted by key, without a newline at the end.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !out.is_empty() {
            out.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "{key}={value:?}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "1", "b": "x\"y"}},
            "spec": {"containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"memory": "32Mi"}}}]}
        }))
        .unwrap()
    }

    fn node() -> NodeFacts {
        NodeFacts {
            name: "n".into(),
            host_ips: vec!["127.0.0.1".into()],
            allocatable_cpu_milli: 4000,
            allocatable_memory: 1 << 30,
            allocatable_ephemeral: 1 << 40,
            ..Default::default()
        }
    }

    #[test]
    fn paths() {
        let ips = vec!["10.0.0.9".to_owned()];
        let get = |path: &str| field(path, &pod(), &node(), Addresses { pod: &ips });
        assert_eq!(get("metadata.labels").unwrap(), "a=\"1\"\nb=\"x\\\"y\"");
        assert_eq!(get("metadata.labels['a']").unwrap(), "1");
        assert_eq!(get("metadata.annotations['none']").unwrap(), "");
        assert_eq!(get("status.podIP").unwrap(), "10.0.0.9");
        assert_eq!(get("status.hostIP").unwrap(), "127.0.0.1");
        assert!(get("spec.containers").is_err());
    }

    #[test]
    fn resources_divide_rounding_up() {
        let pod = pod();
        let own = &pod.spec.as_ref().unwrap().containers[0];
        for (resource_name, divisor, expected) in [
            ("limits.cpu", None, "2"),
            ("limits.cpu", Some("1m"), "1500"),
            ("limits.memory", Some("1Mi"), "64"),
            ("requests.memory", None, "33554432"),
            ("requests.cpu", Some("1m"), "1500"),
            ("limits.ephemeral-storage", Some("1Gi"), "1024"),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": resource_name, "divisor": divisor})).unwrap();
            assert_eq!(resource(&selector, &pod, Some(own), &node()).unwrap(), expected, "{resource_name}");
        }
    }
}
