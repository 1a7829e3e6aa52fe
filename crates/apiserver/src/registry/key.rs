//! Where objects live in the store: `/coracle/registry/<group>/<plural>/[<namespace>/]<name>`.
//!
//! The core group is spelled `core` (no other group can be called that: groups of custom
//! resources contain a dot). Names and namespaces never contain `/`, which the registry
//! checks before it makes a key.

use bytes::Bytes;

/// Everything the API server stores lies below this prefix.
pub(crate) const ROOT: &str = "/coracle/registry/";

/// The identity of one object: whose kind it is, and its place among its kind.
///
/// `tail` is `<namespace>/<name>`, or `<name>` for cluster-scoped kinds: the part of the key
/// by which the caches order and find objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectKey {
    key: Bytes,
    tail_at: usize,
    name_at: usize,
}

impl ObjectKey {
    /// The key of an object; `namespace` is empty for cluster-scoped kinds.
    pub(crate) fn new(group: &str, plural: &str, namespace: &str, name: &str) -> Self {
        let mut key = prefix(group, plural);
        let tail_at = key.len();
        if !namespace.is_empty() {
            key.push_str(namespace);
            key.push('/');
        }
        let name_at = key.len();
        key.push_str(name);
        Self { key: Bytes::from(key), tail_at, name_at }
    }

    /// The key in the store.
    pub(crate) fn bytes(&self) -> Bytes {
        self.key.clone()
    }

    fn text(&self, from: usize) -> &str {
        // The key is made of `str`s, so it is UTF-8 and both offsets are boundaries.
        std::str::from_utf8(self.key.get(from..).unwrap_or_default()).unwrap_or_default()
    }

    /// `<namespace>/<name>` or `<name>`.
    pub(crate) fn tail(&self) -> &str {
        self.text(self.tail_at)
    }

    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        self.text(self.name_at)
    }
}

/// The prefix of all objects of a kind, with a slash at its end.
pub(crate) fn prefix(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{plural}/")
}

/// Splits a key of the store into `<group>/<plural>` and its tail; `None` for keys that are
/// not objects.
pub(crate) fn split(key: &[u8]) -> Option<(&str, &str)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
    let group_end = rest.find('/')?;
    let plural_end = group_end + 1 + rest.get(group_end + 1..)?.find('/')?;
    let tail = rest.get(plural_end + 1..)?;
    (!tail.is_empty()).then_some((rest.get(..plural_end)?, tail))
}

/// `<group>/<plural>`, as [`split`] gives it.
pub(crate) fn kind_path(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{group}/{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_and_taken_apart() {
        let pod = ObjectKey::new("", "pods", "a", "p");
        assert_eq!(pod.bytes(), "/coracle/registry/core/pods/a/p");
        assert_eq!((pod.tail(), pod.name()), ("a/p", "p"));
        assert_eq!(split(&pod.bytes()), Some(("core/pods", "a/p")));
        let node = ObjectKey::new("", "nodes", "", "n");
        assert_eq!((node.tail(), node.name()), ("n", "n"));
        assert_eq!(split(b"/coracle/registry/apps/deployments/"), None);
        assert_eq!(split(b"/other/x/y/z"), None);
        assert_eq!(kind_path("apps", "deployments"), "apps/deployments");
    }
}
