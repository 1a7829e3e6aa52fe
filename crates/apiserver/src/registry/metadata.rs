//! The metadata that belongs to the server: identity, times, generation, deletion marks.

use coracle_api::meta;
use coracle_api::time;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Characters of generated names: no vowels and no look-alikes, so that no words appear.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Random characters of a generated name.
const SUFFIX_CHARS: usize = 5;
/// Longest beginning of a generated name that is kept: with the suffix it is a DNS label.
const PREFIX_CHARS_MAX: usize = 63 - SUFFIX_CHARS;

/// Random characters for a name.
pub(crate) fn random_suffix() -> String {
    (0..SUFFIX_CHARS).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

/// A name that begins as `generateName` says.
pub(super) fn generated_name(prefix: &str) -> String {
    let kept: String = prefix.chars().take(PREFIX_CHARS_MAX).collect();
    format!("{kept}{}", random_suffix())
}

/// Replaces what a client may not say about a new object.
pub(super) fn begin(object: &mut Value, namespace: &str, now: Timestamp) {
    for key in
        ["resourceVersion", "selfLink", "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        meta::set(object, key, Value::Null);
    }
    let namespace = if namespace.is_empty() { Value::Null } else { json!(namespace) };
    meta::set(object, "namespace", namespace);
    meta::set(object, "uid", uuid::Uuid::new_v4().to_string());
    meta::set(object, "creationTimestamp", time::seconds(now));
}

/// Keeps what an update may not change.
pub(super) fn keep(new: &mut Value, old: &Value) {
    let old = old.get("metadata");
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ] {
        // generateName is the client's, but has no meaning after creation.
        let kept = old.and_then(|old| old.get(key)).cloned().unwrap_or(Value::Null);
        meta::set(new, key, kept);
    }
    meta::set(new, "selfLink", Value::Null);
}

/// Raises the generation if there is one.
pub(super) fn raise_generation(object: &mut Value) {
    let generation = meta::generation(object);
    if generation > 0 {
        meta::set(object, "generation", generation + 1);
    }
}

/// Marks an object that goes as soon as nothing holds it.
pub(super) fn mark_deleting(object: &mut Value, now: Timestamp) {
    if meta::deletion_grace_period_seconds(object).is_none() {
        raise_generation(object);
    }
    let past = meta::deletion_timestamp(object).and_then(time::parse).is_some_and(|at| at <= now);
    if !past {
        meta::set(object, "deletionTimestamp", time::seconds(now));
    }
    meta::set(object, "deletionGracePeriodSeconds", 0);
}

/// Sets when an object must be gone.
pub(super) fn mark_graceful(object: &mut Value, at: Timestamp, grace_s: i64) {
    meta::set(object, "deletionTimestamp", time::seconds(at));
    meta::set(object, "deletionGracePeriodSeconds", grace_s);
}

/// `time` moved by seconds, within what can be written.
pub(super) fn shifted(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(time)
}

/// Whether an update leaves an object that is to go and that nothing holds any more.
pub(super) fn is_released(new: &Value) -> bool {
    meta::is_deleting(new)
        && meta::finalizers(new).is_empty()
        && meta::deletion_grace_period_seconds(new).unwrap_or_default() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_labels() {
        let name = generated_name(&"a".repeat(80));
        assert_eq!(name.len(), 63);
        assert!(generated_name("x-").starts_with("x-"));
    }

    #[test]
    fn the_server_owns_identity_and_deletion() {
        let mut object =
            json!({"metadata": {"name": "a", "uid": "mine", "generation": 9, "deletionTimestamp": "x"}});
        begin(&mut object, "ns", Timestamp::UNIX_EPOCH);
        assert_ne!(meta::uid(&object), "mine");
        assert!(!meta::is_deleting(&object));
        let mut new = json!({"metadata": {"name": "b", "labels": {"a": "b"}, "deletionTimestamp": "y"}});
        keep(&mut new, &object);
        assert_eq!((meta::name(&new), meta::uid(&new)), ("a", meta::uid(&object)));
        assert!(!meta::is_deleting(&new) && meta::labels(&new).is_some());
    }

    #[test]
    fn deletion_marks_and_release() {
        let mut object = json!({"metadata": {"name": "a", "generation": 1, "finalizers": ["f"]}});
        mark_deleting(&mut object, Timestamp::UNIX_EPOCH);
        assert_eq!(meta::generation(&object), 2);
        assert!(!is_released(&object));
        meta::set(&mut object, "finalizers", Value::Null);
        assert!(is_released(&object));
    }
}
