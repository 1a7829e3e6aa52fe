//! The Table form of objects: the columns that `kubectl get` prints, rendered by the server.
//!
//! The columns are in the resource's row; the cells of each kind are in the files here, those of
//! custom resources come from the JSON paths of their columns. Times are shown as ages relative
//! to an instant that the caller gives.

use coracle_api::Resource;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::partial;

mod age;
mod cluster;
mod config;
mod custom;
mod network;
mod pod;
mod workload;

pub use age::{age, human};

/// What a row carries besides its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// The object's metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// The cells of one object.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// The Table of objects of one resource. Its metadata is empty, for the caller to fill in.
pub fn render(resource: &Resource, objects: &[Value], now: Timestamp, include: Include) -> Value {
    let columns: Vec<Value> = resource
        .columns
        .iter()
        .map(|c| {
            json!({"name": c.name, "type": c.ty, "format": c.format, "description": c.description,
                "priority": c.priority})
        })
        .collect();
    let cells = renderer(&resource.group, &resource.kind);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells = match cells {
                Some(cells) => cells(object, now),
                None => custom::cells(resource, object, now),
            };
            let shown = match include {
                Include::None => Value::Null,
                Include::Metadata => partial::object(object),
                Include::Object => object.clone(),
            };
            json!({"cells": cells, "object": shown})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows})
}

fn renderer(group: &str, kind: &str) -> Option<Cells> {
    let cells: Cells = match (group, kind) {
        ("", "Pod") => pod::cells,
        ("", "PodTemplate") => workload::pod_template,
        ("", "ReplicationController") | ("apps", "ReplicaSet") => workload::replica_set,
        ("apps", "Deployment") => workload::deployment,
        ("apps", "StatefulSet") => workload::stateful_set,
        ("apps", "DaemonSet") => workload::daemon_set,
        ("apps", "ControllerRevision") => workload::controller_revision,
        ("batch", "Job") => workload::job,
        ("batch", "CronJob") => workload::cron_job,
        ("autoscaling", "HorizontalPodAutoscaler") => workload::autoscaler,
        ("policy", "PodDisruptionBudget") => workload::disruption_budget,
        ("", "ConfigMap") => config::config_map,
        ("", "Secret") => config::secret,
        ("", "ServiceAccount") => config::name_and_age,
        ("", "LimitRange") => config::name_and_created,
        ("", "ResourceQuota") => config::resource_quota,
        ("" | "events.k8s.io", "Event") => config::event,
        ("coordination.k8s.io", "Lease") => config::lease,
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => config::name_and_created,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => config::binding,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => config::name_and_created,
        ("", "Service") => network::service,
        ("", "Endpoints") => network::endpoints,
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice,
        ("networking.k8s.io", "Ingress") => network::ingress,
        ("networking.k8s.io", "IngressClass") => network::ingress_class,
        ("networking.k8s.io", "NetworkPolicy") => network::network_policy,
        ("networking.k8s.io", "IPAddress") => network::ip_address,
        ("networking.k8s.io", "ServiceCIDR") => network::service_cidr,
        ("", "Node") => cluster::node,
        ("", "Namespace") => cluster::namespace,
        ("", "PersistentVolume") => cluster::volume,
        ("", "PersistentVolumeClaim") => cluster::claim,
        ("storage.k8s.io", "StorageClass") => cluster::storage_class,
        ("scheduling.k8s.io", "PriorityClass") => cluster::priority_class,
        ("node.k8s.io", "RuntimeClass") => cluster::runtime_class,
        ("certificates.k8s.io", "CertificateSigningRequest") => cluster::signing_request,
        ("apiregistration.k8s.io", "APIService") => cluster::api_service,
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => cluster::webhooks,
        _ => return None,
    };
    Some(cells)
}

#[cfg(test)]
mod tests;
