//! What a schema cannot say about a kind: computed defaults, what clients may not set, and the
//! rules of its fields. One file per kind; a kind without a file has only the general rules.
//!
//! The API server calls [`create`], [`update`] and [`update_status`] to bring an object into
//! the form that is stored, and [`validate_create`], [`validate_update`] and
//! [`validate_status`] to learn all that is wrong with it.

use coracle_api::FieldErrors;
use coracle_api::names;
use serde_json::Value;

mod check;
mod config;
mod cron;
mod cronjob;
mod csr;
mod daemonset;
mod deployment;
mod endpoints;
mod event;
mod generic;
mod hpa;
mod ingress;
mod job;
mod lease;
mod lifecycle;
mod metadata;
mod namespace;
mod networkpolicy;
mod node;
mod pdb;
mod pod;
mod priorityclass;
mod rbac;
mod replicaset;
mod runtimeclass;
mod scale;
mod secret;
mod selector;
mod service;
mod statefulset;
mod storage;
mod template;

pub use lifecycle::{create, update, update_status, validate_create, validate_status, validate_update};
pub use pod::qos_class;
pub use scale::{scale_of, set_scale, validate_scale};

/// The rules of a kind. Every method has the answer of a kind without rules of its own.
pub trait Kind: Sync {
    /// Fills in what follows from other fields. Called on every write, and on reads of objects
    /// that an older version stored; doing it twice changes nothing.
    fn default(&self, _object: &mut Value) {}

    /// Sets what clients may not choose in a new object; its status is gone already.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Sets what follows from the name and uid of a new object, which the API server gives after
    /// [`create`].
    fn identify(&self, _object: &mut Value) {}

    /// Restores what clients may not change; the status is the stored one already.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Restores what a write of the status may not change; everything but metadata and status
    /// is the stored one already.
    fn prepare_status_update(&self, _new: &mut Value, _old: &Value) {}

    /// Finds what is wrong with an object.
    fn validate(&self, _object: &Value, _errors: &mut FieldErrors) {}

    /// Finds changes that may not be made; the new object is validated besides.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut FieldErrors) {}

    /// Finds what is wrong with a new status.
    fn validate_status(&self, _new: &Value, _old: &Value, _errors: &mut FieldErrors) {}

    /// Whether the status is written through a subresource only.
    fn has_status(&self) -> bool {
        false
    }

    /// Whether `metadata.generation` counts changes of the object.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether a write counts as a change for `metadata.generation`.
    fn is_changed(&self, new: &Value, old: &Value) -> bool {
        new.get("spec") != old.get("spec")
    }

    /// What is wrong with a name; for a prefix (generateName) a trailing dash is gone already.
    fn name_errors(&self, name: &str) -> Vec<String> {
        names::dns1123_subdomain(name)
    }

    /// The fields besides `metadata.name` and `metadata.namespace` that field selectors know.
    fn field_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The values of those fields, in order.
    fn selectable_fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What the client should be warned of.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// The rules of a kind.
pub fn rules(group: &str, kind: &str) -> &'static dyn Kind {
    match (group, kind) {
        ("", "ConfigMap") => &config::ConfigMap,
        ("", "Endpoints") => &endpoints::Endpoints,
        ("" | "events.k8s.io", "Event") => &event::Event,
        ("", "Namespace") => &namespace::Namespace,
        ("", "Node") => &node::Node,
        ("", "PersistentVolume") => &storage::PersistentVolume,
        ("", "PersistentVolumeClaim") => &storage::PersistentVolumeClaim,
        ("", "Pod") => &pod::Pod,
        ("", "PodTemplate") => &template::PodTemplate,
        ("", "ReplicationController") => &replicaset::ReplicationController,
        ("", "ResourceQuota") => &generic::STATUS,
        ("", "Secret") => &secret::Secret,
        ("", "Service") => &service::Service,
        ("apps", "ControllerRevision") => &config::ControllerRevision,
        ("apps", "DaemonSet") => &daemonset::DaemonSet,
        ("apps", "Deployment") => &deployment::Deployment,
        ("apps", "ReplicaSet") => &replicaset::ReplicaSet,
        ("apps", "StatefulSet") => &statefulset::StatefulSet,
        ("autoscaling", "HorizontalPodAutoscaler") => &hpa::HorizontalPodAutoscaler,
        ("batch", "CronJob") => &cronjob::CronJob,
        ("batch", "Job") => &job::Job,
        ("certificates.k8s.io", "CertificateSigningRequest") => &csr::CertificateSigningRequest,
        ("coordination.k8s.io", "Lease") => &lease::Lease,
        ("discovery.k8s.io", "EndpointSlice") => &endpoints::EndpointSlice,
        ("networking.k8s.io", "Ingress") => &ingress::Ingress,
        ("networking.k8s.io", "NetworkPolicy") => &networkpolicy::NetworkPolicy,
        ("networking.k8s.io", "IngressClass") => &generic::GENERATION,
        ("networking.k8s.io", "ServiceCIDR") => &generic::STATUS,
        ("node.k8s.io", "RuntimeClass") => &runtimeclass::RuntimeClass,
        ("policy", "PodDisruptionBudget") => &pdb::PodDisruptionBudget,
        ("rbac.authorization.k8s.io", "Role") => &rbac::ROLE,
        ("rbac.authorization.k8s.io", "ClusterRole") => &rbac::CLUSTER_ROLE,
        ("rbac.authorization.k8s.io", "RoleBinding") => &rbac::ROLE_BINDING,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => &rbac::CLUSTER_ROLE_BINDING,
        ("scheduling.k8s.io", "PriorityClass") => &priorityclass::PriorityClass,
        ("storage.k8s.io", "StorageClass") => &storage::StorageClass,
        ("storage.k8s.io", "VolumeAttachment") | ("apiregistration.k8s.io", "APIService") => &generic::STATUS,
        ("resource.k8s.io", "ResourceClaim") => &generic::STATUS,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("flowcontrol.apiserver.k8s.io", "FlowSchema" | "PriorityLevelConfiguration") => {
            &generic::STATUS_AND_GENERATION
        }
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => &generic::GENERATION,
        _ => &generic::PLAIN,
    }
}

#[cfg(test)]
mod tests;
