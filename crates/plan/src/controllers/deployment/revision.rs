//! Revisions: which ReplicaSet has a template, how a new one is named and numbered.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use sha2::{Digest as _, Sha256};

use super::{DESIRED_REPLICAS, HASH_LABEL, Limits, MAX_REPLICAS, Member, REVISION, REVISION_HISTORY};
use crate::controllers::object;

/// The longest list of earlier revision numbers, in characters; the oldest are dropped.
const HISTORY_CHARS_MAX: usize = 2000;
/// How many characters of the hash are in names.
const HASH_CHARS: usize = 10;
/// No vowels and no digits that look like them, so that names spell nothing (as Kubernetes').
const HASH_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Annotations of a Deployment that are its own and not copied to ReplicaSets.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// Whether two templates are the same but for the hash label.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a.spec == b.spec && bare_meta(a) == bare_meta(b)
}

/// A template's metadata without the hash label, with empty maps as absent ones.
fn bare_meta(template: &PodTemplateSpec) -> ObjectMeta {
    let mut meta = template.metadata.clone().unwrap_or_default();
    if let Some(labels) = meta.labels.as_mut() {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    meta
}

/// A short text that depends on the template and on how often names have collided.
pub(super) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let bare = PodTemplateSpec { metadata: Some(bare_meta(template)), spec: template.spec.clone() };
    let mut digest = Sha256::new();
    // Kubernetes' types always turn into JSON, and do so in one order.
    digest.update(serde_json::to_vec(&bare).unwrap_or_default());
    if collisions > 0 {
        digest.update(collisions.to_be_bytes());
    }
    let letters = digest.finalize();
    letters
        .iter()
        .take(HASH_CHARS)
        .map(|byte| char::from(HASH_ALPHABET[usize::from(*byte) % HASH_ALPHABET.len()]))
        .collect()
}

/// A ReplicaSet's revision number, 0 if it has none.
pub(super) fn number(set: &ReplicaSet) -> i64 {
    let text = object::annotation(&set.metadata, REVISION);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The ReplicaSet for the Deployment's template, not yet in the cluster.
pub(super) fn make(deployment: &Deployment, spec: &DeploymentSpec, name_hash: &str) -> ReplicaSet {
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), name_hash.to_owned());
    let set_labels = labels.clone();
    let mut selector: LabelSelector = spec.selector.clone();
    let wanted = selector.match_labels.get_or_insert_default();
    wanted.insert(HASH_LABEL.to_owned(), name_hash.to_owned());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{name_hash}", object::name(&deployment.metadata))),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(set_labels),
            owner_references: Some(vec![object::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// Brings the new ReplicaSet's annotations up to date: the Deployment's own, and the number.
pub(super) fn annotate(member: &mut Member, deployment: &Deployment, revision: i64) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN_ANNOTATIONS.contains(&key.as_str()) {
            member.annotate(key, value);
        }
    }
    let old = number(&member.set);
    if old >= revision {
        return;
    }
    if old > 0 {
        let history = object::annotation(&member.set.metadata, REVISION_HISTORY);
        let history = extend_history(history.unwrap_or_default(), old);
        member.annotate(REVISION_HISTORY, &history);
    }
    member.annotate(REVISION, &revision.to_string());
}

fn extend_history(history: &str, revision: i64) -> String {
    let mut numbers: Vec<String> =
        history.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    numbers.push(revision.to_string());
    let length = |numbers: &[String]| numbers.iter().map(|number| number.len() + 1).sum::<usize>();
    while numbers.len() > 1 && length(&numbers) > HISTORY_CHARS_MAX {
        numbers.remove(0);
    }
    numbers.join(",")
}

/// Notes the Deployment's size on a ReplicaSet, for proportional scaling later.
pub(super) fn annotate_size(member: &mut Member, limits: Limits) {
    member.annotate(DESIRED_REPLICAS, &limits.desired.to_string());
    member.annotate(MAX_REPLICAS, &limits.desired.saturating_add(limits.surge).to_string());
}
