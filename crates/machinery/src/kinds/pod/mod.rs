//! `core/v1 Pod`, and the pod specs inside templates.
//!
//! Defaults that need other objects (service account, priority, tolerations) are admission's.

use coracle_api::{FieldErrors, FieldPath, meta};
use serde_json::{Value, json};

use super::Kind;
use crate::view::{at, flag, list, object_mut, text};

mod containers;
mod defaults;
mod spec;
mod update;
mod volumes;

pub(super) use defaults::{VOLUME_SOURCES, default_spec};
pub(super) use spec::{tolerations, validate_spec};

/// `core/v1 Pod`.
pub(super) struct Pod;

impl Kind for Pod {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            defaults::default_pod_spec(spec);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let class = qos_class(at(object, "spec"));
        let gated = !list(object, "spec.schedulingGates").is_empty();
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if gated {
            status["conditions"] = json!([{"type": "PodScheduled", "status": "False", "lastProbeTime": null,
                "lastTransitionTime": null, "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
        }
        if let Some(object) = object.as_object_mut() {
            object.insert("status".to_owned(), status);
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let class = at(old, "status.qosClass").clone();
        if let (false, Some(status)) = (class.is_null(), object_mut(new, "status")) {
            status.entry("qosClass").or_insert(class);
        }
        if let Some(metadata) = new.get_mut("metadata") {
            crate::view::keep(metadata, at(old, "metadata"), "ownerReferences");
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_spec(at(object, "spec"), &FieldPath::new("spec"), errors);
        spec::validate_pod_only(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        update::validate(new, old, errors);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn field_names(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ]
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let mut out = Vec::with_capacity(9);
        for name in self.field_names() {
            let value = match *name {
                "spec.hostNetwork" => flag(object, name).to_string(),
                "status.podIPs" => {
                    let ips: Vec<&str> = list(object, name).iter().map(|ip| text(ip, "ip")).collect();
                    ips.join(",")
                }
                name => text(object, name).to_owned(),
            };
            out.push((*name, value));
        }
        out
    }
}

/// The quality-of-service class of a pod with this spec.
pub fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in list(spec, "containers").iter().chain(list(spec, "initContainers")) {
        for resource in ["cpu", "memory"] {
            let limit = at(container, "resources.limits").get(resource).map(is_set);
            let request = at(container, "resources.requests").get(resource).map(is_set);
            any |= limit == Some(true) || request == Some(true);
            let same = at(container, "resources.limits").get(resource)
                == at(container, "resources.requests").get(resource);
            guaranteed &= limit == Some(true) && (same || request.is_none());
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_set(quantity: &Value) -> bool {
    coracle_api::quantity::Quantity::from_value(quantity).is_ok_and(|q| !q.is_zero() && !q.is_negative())
}

/// Whether the kubelet mirrors the pod from a file of its own.
fn is_mirror(object: &Value) -> bool {
    meta::annotation(object, "kubernetes.io/config.mirror").is_some()
}

#[cfg(test)]
mod tests;
