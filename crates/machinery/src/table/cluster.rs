//! Nodes, namespaces, storage and what else belongs to the whole cluster.

use coracle_api::meta;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::{age, human};
use super::workload::or_none;
use crate::view::{at, flag, int, list, text};

const ROLE_LABEL: &str = "node-role.kubernetes.io/";

/// Name, Status, Roles, Age, Version, Internal-IP, External-IP, OS-Image, Kernel-Version,
/// Container-Runtime.
pub(super) fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(object, "status.conditions").iter().find(|c| text(c, "type") == "Ready");
    let mut status = match ready.map(|c| text(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(object, "spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let address = |ty: &str| {
        let found = list(object, "status.addresses").iter().find(|a| text(a, "type") == ty);
        or_none(found.map_or("", |a| text(a, "address"))).to_owned()
    };
    let info = |name: &str| match text(at(object, "status.nodeInfo"), name) {
        "" => "<unknown>",
        found => found,
    };
    vec![
        json!(meta::name(object)),
        json!(status),
        json!(roles(object)),
        json!(age(object, now)),
        json!(text(object, "status.nodeInfo.kubeletVersion")),
        json!(address("InternalIP")),
        json!(address("ExternalIP")),
        json!(info("osImage")),
        json!(info("kernelVersion")),
        json!(info("containerRuntimeVersion")),
    ]
}

fn roles(object: &Value) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in meta::labels(object).into_iter().flatten() {
        match key.strip_prefix(ROLE_LABEL) {
            Some(role) if !role.is_empty() => roles.push(role),
            _ if key == "kubernetes.io/role" => roles.extend(value.as_str().filter(|v| !v.is_empty())),
            _ => {}
        }
    }
    roles.sort_unstable();
    or_none(&roles.join(",")).to_owned()
}

/// Name, Status, Age.
pub(super) fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(meta::name(object)), json!(text(object, "status.phase")), json!(age(object, now))]
}

/// Access modes in their short forms.
fn modes(modes: &[Value]) -> String {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    let all: Vec<&str> = modes.iter().map(short).collect();
    all.join(",")
}

fn storage_phase(object: &Value) -> &str {
    if meta::is_deleting(object) { "Terminating" } else { text(object, "status.phase") }
}

/// Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass,
/// VolumeAttributesClass, Reason, Age, VolumeMode.
pub(super) fn volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = at(object, "spec.claimRef");
    let claim = if claim.is_null() {
        String::new()
    } else {
        format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
    };
    let class = match text(object, "spec.volumeAttributesClassName") {
        "" => "<unset>",
        class => class,
    };
    vec![
        json!(meta::name(object)),
        json!(text(object, "spec.capacity.storage")),
        json!(modes(list(object, "spec.accessModes"))),
        json!(text(object, "spec.persistentVolumeReclaimPolicy")),
        json!(storage_phase(object)),
        json!(claim),
        json!(text(object, "spec.storageClassName")),
        json!(class),
        json!(text(object, "status.reason")),
        json!(age(object, now)),
        json!(text(object, "spec.volumeMode")),
    ]
}

/// Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age,
/// VolumeMode.
pub(super) fn claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let class = match text(object, "spec.volumeAttributesClassName") {
        "" => "<unset>",
        class => class,
    };
    let bound = !text(object, "spec.volumeName").is_empty();
    let capacity = if bound { text(object, "status.capacity.storage") } else { "" };
    let granted = if bound { modes(list(object, "status.accessModes")) } else { String::new() };
    vec![
        json!(meta::name(object)),
        json!(storage_phase(object)),
        json!(text(object, "spec.volumeName")),
        json!(capacity),
        json!(granted),
        json!(text(object, "spec.storageClassName")),
        json!(class),
        json!(age(object, now)),
        json!(text(object, "spec.volumeMode")),
    ]
}

/// Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age.
pub(super) fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = meta::annotation(object, "storageclass.kubernetes.io/is-default-class") == Some("true");
    let name = meta::name(object);
    vec![
        json!(if is_default { format!("{name} (default)") } else { name.to_owned() }),
        json!(text(object, "provisioner")),
        json!(text(object, "reclaimPolicy")),
        json!(text(object, "volumeBindingMode")),
        json!(flag(object, "allowVolumeExpansion")),
        json!(age(object, now)),
    ]
}

/// Name, Value, Global-Default, Age, PreemptionPolicy.
pub(super) fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(meta::name(object)),
        json!(int(object, "value").unwrap_or_default()),
        json!(flag(object, "globalDefault")),
        json!(age(object, now)),
        json!(text(object, "preemptionPolicy")),
    ]
}

/// Name, Handler, Age.
pub(super) fn runtime_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(meta::name(object)), json!(text(object, "handler")), json!(age(object, now))]
}

/// Name, Age, SignerName, Requestor, RequestedDuration, Condition.
pub(super) fn signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let conditions = list(object, "status.conditions");
    let has = |ty: &str| conditions.iter().any(|c| text(c, "type") == ty);
    let mut words: Vec<&str> = ["Approved", "Denied", "Failed"].into_iter().filter(|ty| has(ty)).collect();
    if words.is_empty() {
        words.push("Pending");
    }
    if !text(object, "status.certificate").is_empty() {
        words.push("Issued");
    }
    let duration = int(object, "spec.expirationSeconds").map_or_else(|| "<none>".to_owned(), human);
    vec![
        json!(meta::name(object)),
        json!(age(object, now)),
        json!(or_none(text(object, "spec.signerName"))),
        json!(text(object, "spec.username")),
        json!(duration),
        json!(words.join(",")),
    ]
}

/// Name, Service, Available, Age.
pub(super) fn api_service(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = at(object, "spec.service");
    let place = if service.is_null() {
        "Local".to_owned()
    } else {
        format!("{}/{}", text(service, "namespace"), text(service, "name"))
    };
    let available = list(object, "status.conditions").iter().find(|c| text(c, "type") == "Available");
    let available = match available {
        Some(c) if text(c, "status") == "True" || text(c, "reason").is_empty() => {
            text(c, "status").to_owned()
        }
        Some(c) => format!("{} ({})", text(c, "status"), text(c, "reason")),
        None => "Unknown".to_owned(),
    };
    vec![json!(meta::name(object)), json!(place), json!(available), json!(age(object, now))]
}

/// Name, Webhooks, Age.
pub(super) fn webhooks(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(meta::name(object)), json!(list(object, "webhooks").len()), json!(age(object, now))]
}
