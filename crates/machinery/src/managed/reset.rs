//! What a write may not change whatever it says, and so nobody comes to own by it: the status for
//! writes of the object, the spec for writes of the status, and what else the parts of kinds leave
//! alone.

use super::set::Set;

/// The fields that writes through one part of a kind leave alone.
#[derive(Clone, Copy, Debug)]
pub enum Reset {
    /// These paths and all below them.
    Except(&'static [&'static [&'static str]]),
    /// Everything but these paths and all below them; `*` is any item.
    Only(&'static [&'static [&'static str]]),
}

const STATUS: Reset = Reset::Except(&[&["status"]]);
const SPEC: Reset = Reset::Except(&[&["spec"]]);
const NOTHING: Reset = Reset::Except(&[]);
/// What a resize of a pod is about.
const RESIZE: Reset = Reset::Only(&[
    &["spec", "containers", "*", "resources"],
    &["spec", "containers", "*", "resizePolicy"],
    &["spec", "initContainers", "*", "resources"],
    &["spec", "initContainers", "*", "resizePolicy"],
]);

/// Fields in metadata that nobody owns: the server gives them, or they say which object it is.
const IDENTITY: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

impl Reset {
    /// What writes of `subresource` (empty: the object) of a kind leave alone. `has_status` says
    /// whether the status is a part of its own.
    #[must_use]
    pub fn of(group: &str, plural: &str, subresource: &str, has_status: bool) -> Self {
        match (group, plural, subresource) {
            ("", "pods", "ephemeralcontainers") => Self::Only(&[&["spec", "ephemeralContainers"]]),
            ("", "pods", "resize") => RESIZE,
            ("", "pods", "status") => Self::Except(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ]),
            ("apps", "deployments", "status") => Self::Except(&[&["spec"], &["metadata", "labels"]]),
            ("storage.k8s.io", "volumeattachments", "status") => Self::Except(&[&["spec"], &["metadata"]]),
            ("certificates.k8s.io", "certificatesigningrequests", "status") => {
                Self::Except(&[&["spec"], &["status", "conditions"]])
            }
            ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
                Self::Except(&[&["spec"], &["status", "certificate"]])
            }
            (_, _, "status") => SPEC,
            (_, _, "finalize") => STATUS,
            // A node may be created with its status; later writes leave it alone.
            _ if has_status => STATUS,
            _ => NOTHING,
        }
    }

    /// The set without what writes leave alone.
    pub(super) fn filter(self, mut set: Set) -> Set {
        match self {
            Self::Except(paths) => {
                paths.iter().for_each(|path| set.cut(path));
                set
            }
            Self::Only(paths) => set.only(paths),
        }
    }
}

/// The set without what nobody owns.
pub(super) fn strip(mut set: Set) -> Set {
    IDENTITY.iter().for_each(|path| set.remove(path));
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_own_what_they_are_about() {
        let fields = json!({"f:metadata": {".": {}, "f:name": {}, "f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:x": {}}, "f:status": {"f:y": {}}});
        let filtered = |subresource: &str, plural: &str| {
            let reset = Reset::of("apps", plural, subresource, true);
            strip(reset.filter(Set::decode(&fields).unwrap())).encode()
        };
        let labels = json!({"f:labels": {".": {}, "f:a": {}}});
        assert_eq!(filtered("", "deployments"), json!({"f:metadata": labels, "f:spec": {"f:x": {}}}));
        assert_eq!(filtered("status", "deployments"), json!({"f:status": {"f:y": {}}}));
        assert_eq!(filtered("status", "daemonsets"), json!({"f:metadata": labels, "f:status": {"f:y": {}}}));
    }
}
