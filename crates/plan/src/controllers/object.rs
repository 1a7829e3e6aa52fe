//! Questions that several controllers ask about objects: who owns one, does a selector match it,
//! is a pod ready, for how long.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::action::{Typed, Write};

/// Labels as objects hold them.
pub type Labels = BTreeMap<String, String>;

/// The owner that manages the object.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object with this uid manages the other.
#[must_use]
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// The reference by which `owner` manages an object.
pub fn controller_reference<K: Typed>(owner: &K) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The reference by which events speak of an object.
pub fn reference<K: Typed>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Whether deletion has been asked for.
#[must_use]
pub fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// The object's name, or nothing.
#[must_use]
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The object's uid, or nothing.
#[must_use]
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// One annotation.
#[must_use]
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether every wanted label is there.
#[must_use]
pub fn has_labels(wanted: &Labels, labels: Option<&Labels>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value))
}

/// Whether a selector matches these labels. An empty selector matches everything; an operator
/// that is unknown matches nothing.
#[must_use]
pub fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    selector.match_labels.as_ref().is_none_or(|wanted| has_labels(wanted, labels))
        && selector.match_expressions.iter().flatten().all(|one| satisfies(one, labels))
}

fn satisfies(one: &LabelSelectorRequirement, labels: Option<&Labels>) -> bool {
    let value = labels.and_then(|all| all.get(&one.key));
    let listed = value.is_some_and(|value| one.values.iter().flatten().any(|known| known == value));
    match one.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// Whether a selector names nothing, and so would match everything.
#[must_use]
pub fn is_empty_selector(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// What a controller does with an object that it may own.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It is the controller's.
    Keep,
    /// It is nobody's and matches: it becomes the controller's by this write.
    Adopt(Write),
    /// It was the controller's and no longer matches: this write lets it go.
    Release(Write),
    /// It is none of the controller's business.
    Leave,
}

/// Decides whether `owner` keeps, adopts or releases `object`. Neither adopts nor releases while
/// one of them is being deleted.
pub fn claim<O: Typed, K: Typed>(owner: &O, selector: &LabelSelector, object: &K) -> Claim {
    let (own, meta) = (owner.metadata(), object.metadata());
    let matches = selects(selector, meta.labels.as_ref());
    let going = is_deleting(own) || is_deleting(meta);
    match controller_of(meta) {
        Some(controller) if controller.uid != uid(own) => Claim::Leave,
        Some(_) if matches => Claim::Keep,
        Some(_) if going => Claim::Leave,
        Some(_) => Claim::Release(strategic(
            object,
            json!({ "metadata": {
                "uid": meta.uid,
                "ownerReferences": [{ "$patch": "delete", "uid": own.uid }],
            }}),
        )),
        None if matches && !going => Claim::Adopt(strategic(
            object,
            json!({ "metadata": {
                "uid": meta.uid,
                "ownerReferences": [controller_reference(owner)],
            }}),
        )),
        None => Claim::Leave,
    }
}

fn strategic<K: Typed>(object: &K, patch: serde_json::Value) -> Write {
    use super::action::{Part, Patch, Target};
    Write::Patch { target: Target::of(object), part: Part::Main, patch: Patch::Strategic(patch) }
}

/// The pod's phase, `Pending` if it has none yet.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the pod has ended for good.
#[must_use]
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts towards a controller's replicas: neither ended nor being deleted.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_deleting(&pod.metadata)
}

/// One of the pod's conditions.
#[must_use]
pub fn pod_condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Whether the pod's `Ready` condition is true.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// When the pod became ready, if it is.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = pod_condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// When a ready pod is (or became) available: `min_ready_s` after it became ready. `None` if it
/// is not ready.
#[must_use]
pub fn available_at(pod: &Pod, min_ready_s: i32) -> Option<Timestamp> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_s <= 0 {
        return Some(Timestamp::MIN);
    }
    let since = ready_since(pod)?;
    Some(after(since, i64::from(min_ready_s)))
}

/// `seconds` after `time`, or the end of time.
#[must_use]
pub fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// A count, or a percentage of `total` rounded up or down; nonsense counts as zero.
#[must_use]
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|number| number.parse().ok()).unwrap_or(0);
            let hundredths = percent.saturating_mul(i64::from(total));
            let count = if round_up { (hundredths + 99).div_euclid(100) } else { hundredths / 100 };
            i32::try_from(count).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn percentages_round_as_asked() {
        let quarter = IntOrString::String("25%".into());
        for (total, up, down) in [(0, 0, 0), (1, 1, 0), (4, 1, 1), (10, 3, 2)] {
            assert_eq!((scaled(&quarter, total, true), scaled(&quarter, total, false)), (up, down));
        }
        assert_eq!(scaled(&IntOrString::Int(3), 10, true), 3);
        assert_eq!(scaled(&IntOrString::String("x".into()), 10, true), 0);
    }

    #[test]
    fn selectors_match_labels_and_expressions() {
        let requirement = |operator: &str, values: &[&str]| LabelSelectorRequirement {
            key: "tier".into(),
            operator: operator.into(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        };
        let have = labels(&[("app", "web"), ("tier", "front")]);
        let rows: [(&str, &[&str], bool); 6] = [
            ("In", &["front"], true),
            ("In", &["back"], false),
            ("NotIn", &["back"], true),
            ("Exists", &[], true),
            ("DoesNotExist", &[], false),
            ("Unknown", &[], false),
        ];
        for (operator, values, expected) in rows {
            let selector = LabelSelector {
                match_labels: Some(labels(&[("app", "web")])),
                match_expressions: Some(vec![requirement(operator, values)]),
            };
            assert_eq!(selects(&selector, Some(&have)), expected, "{operator}");
            assert!(!selects(&selector, None));
        }
        assert!(is_empty_selector(&LabelSelector::default()));
        assert!(selects(&LabelSelector::default(), None));
    }
}
