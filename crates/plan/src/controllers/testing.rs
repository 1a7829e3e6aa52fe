//! Builders that keep the rows of table tests short.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodIP, PodSpec, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};

use super::action::Typed;
use super::object;

/// `seconds` after the epoch.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn selector(pairs: &[(&str, &str)]) -> LabelSelector {
    LabelSelector { match_labels: Some(labels(pairs)), match_expressions: None }
}

/// Metadata in namespace `ns` with a uid made of the name.
pub(crate) fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some("ns".into()),
        uid: Some(format!("uid-{name}")),
        resource_version: Some("1".into()),
        generation: Some(1),
        creation_timestamp: Some(Time(at(0))),
        ..ObjectMeta::default()
    }
}

pub(crate) fn template(pairs: &[(&str, &str)], image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels(pairs)), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "c".into(),
                image: Some(image.into()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
    }
}

pub(crate) fn replica_set(name: &str, replicas: i32) -> ReplicaSet {
    ReplicaSet {
        metadata: meta(name),
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            selector: selector(&[("app", "web")]),
            template: Some(template(&[("app", "web")], "v1")),
            min_ready_seconds: None,
        }),
        status: None,
    }
}

/// A pod under construction.
#[derive(Clone)]
pub(crate) struct MakePod(Pod);

impl MakePod {
    /// A pending pod labelled `app=web`.
    pub(crate) fn new(name: &str) -> Self {
        let mut metadata = meta(name);
        metadata.labels = Some(labels(&[("app", "web")]));
        let spec = template(&[], "v1").spec;
        MakePod(Pod { metadata, spec, status: Some(PodStatus::default()) })
    }

    pub(crate) fn owned_by<K: Typed>(mut self, owner: &K) -> Self {
        let reference: OwnerReference = object::controller_reference(owner);
        self.0.metadata.owner_references = Some(vec![reference]);
        self
    }

    pub(crate) fn phase(mut self, phase: &str) -> Self {
        self.status().phase = Some(phase.into());
        self
    }

    pub(crate) fn ready(mut self, since: i64) -> Self {
        let condition = PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(Time(at(since))),
            ..PodCondition::default()
        };
        self.status().conditions.get_or_insert_default().push(condition);
        self.phase("Running")
    }

    pub(crate) fn node(mut self, name: &str) -> Self {
        self.0.spec.as_mut().unwrap().node_name = Some(name.into());
        self
    }

    pub(crate) fn ip(mut self, ip: &str) -> Self {
        self.status().pod_ip = Some(ip.into());
        self.status().pod_ips = Some(vec![PodIP { ip: ip.into() }]);
        self
    }

    pub(crate) fn deleting(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(Time(at(1)));
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        let labels = self.0.metadata.labels.get_or_insert_default();
        labels.insert(key.into(), value.into());
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        let annotations = self.0.metadata.annotations.get_or_insert_default();
        annotations.insert(key.into(), value.into());
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn build(self) -> Arc<Pod> {
        Arc::new(self.0)
    }

    fn status(&mut self) -> &mut PodStatus {
        self.0.status.get_or_insert_default()
    }
}
