//! Defaults of pod specs that depend on other fields.

use serde_json::{Map, Value, json};

use crate::view::{flag, list_mut, set_default};

/// The sources that a volume can have; one without any is an `emptyDir`.
pub(in crate::kinds) const VOLUME_SOURCES: [&str; 30] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];
const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Defaults of any pod spec, in a pod or in a template.
pub(in crate::kinds) fn default_spec(spec: &mut Value) {
    let host_network = flag(spec, "hostNetwork");
    for list in CONTAINER_LISTS {
        for container in list_mut(spec, list).iter_mut().filter_map(Value::as_object_mut) {
            default_container(container, host_network && list != "ephemeralContainers");
        }
    }
    for volume in list_mut(spec, "volumes").iter_mut().filter_map(Value::as_object_mut) {
        if !VOLUME_SOURCES.iter().any(|source| volume.contains_key(*source)) {
            volume.insert("emptyDir".to_owned(), json!({}));
        }
        if let Some(sources) = volume.get_mut("projected") {
            for source in list_mut(sources, "sources") {
                if let Some(token) = source.get_mut("serviceAccountToken").and_then(Value::as_object_mut) {
                    set_default(token, "expirationSeconds", || 3600.into());
                }
            }
        }
    }
    let Some(object) = spec.as_object_mut() else { return };
    // The two names of one field: the old one follows the new one.
    if let Some(name) = object.get("serviceAccountName").filter(|n| !n.is_null()).cloned() {
        object.insert("serviceAccount".to_owned(), name);
    } else if let Some(name) = object.get("serviceAccount").filter(|n| !n.is_null()).cloned() {
        object.insert("serviceAccountName".to_owned(), name);
    }
}

/// Defaults of a pod's own spec, on top.
pub(super) fn default_pod_spec(spec: &mut Value) {
    default_spec(spec);
    for list in ["containers", "initContainers"] {
        for container in list_mut(spec, list) {
            requests_from_limits(container);
        }
    }
    if let Some(object) = spec.as_object_mut() {
        set_default(object, "enableServiceLinks", || true.into());
    }
}

fn default_container(container: &mut Map<String, Value>, host_network: bool) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    set_default(container, "imagePullPolicy", || policy.into());
    if !host_network {
        return;
    }
    let ports = container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
    for port in ports.filter_map(Value::as_object_mut) {
        if let Some(number) = port.get("containerPort").cloned() {
            set_default(port, "hostPort", || number);
        }
    }
}

/// Whether an image is named without a tag or digest, or with the tag `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.split_once(':') {
        None => true,
        Some((_, tag)) => tag == "latest",
    }
}

/// A limit without a request is also the request.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    if requests.is_null() {
        *requests = json!({});
    }
    if let Some(requests) = requests.as_object_mut() {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}
