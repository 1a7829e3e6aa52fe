//! Sets of paths, as trees: what a manager owns, what a change added.
//!
//! A node is a member of the set, or only leads to members below it, or both. Nodes are sorted by
//! their element and no node is empty, so equal sets are equal trees and the operations are merges
//! of sorted lists.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::element::Element;

/// How deep a set may be; deeper ones that a client sends are refused.
const DEPTH_MAX: usize = 128;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(Vec<Node>);

/// An element of a path, whether the path that ends here is a member, and what is below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) element: Element,
    pub(super) member: bool,
    pub(super) below: Set,
}

/// What a set has at one path: nothing, the path itself, paths below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) member: bool,
    pub(super) below: Set,
}

impl Branch {
    /// The path itself and nothing below.
    pub(super) fn leaf() -> Self {
        Self { member: true, below: Set::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.0
    }

    /// Appends a branch whose element sorts behind all others; an empty one is left out.
    pub(super) fn push(&mut self, element: &Element, branch: Branch) {
        if !branch.is_empty() {
            self.0.push(Node { element: element.clone(), member: branch.member, below: branch.below });
        }
    }

    /// Puts a branch to what is there.
    pub(super) fn add(&mut self, element: Element, branch: Branch) {
        if branch.is_empty() {
            return;
        }
        match self.0.binary_search_by(|node| node.element.cmp(&element)) {
            Ok(at) => {
                self.0[at].member |= branch.member;
                self.0[at].below = self.0[at].below.union(&branch.below);
            }
            Err(at) => self.0.insert(at, Node { element, member: branch.member, below: branch.below }),
        }
    }

    /// The set of one path of fields.
    pub(super) fn of_fields<S: AsRef<str>>(path: &[S]) -> Self {
        let mut set = Self::default();
        if let Some((first, rest)) = path.split_first() {
            let branch = Branch { member: rest.is_empty(), below: Self::of_fields(rest) };
            set.add(Element::Field(first.as_ref().to_owned()), branch);
        }
        set
    }

    /// The node at an element.
    pub(super) fn find(&self, element: &Element) -> Option<&Node> {
        self.0.binary_search_by(|node| node.element.cmp(element)).ok().map(|at| &self.0[at])
    }

    /// Whether a path of fields is a member.
    pub(super) fn has_fields<S: AsRef<str>>(&self, path: &[S]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        match self.find(&Element::Field(first.as_ref().to_owned())) {
            Some(node) if rest.is_empty() => node.member,
            Some(node) => node.below.has_fields(rest),
            None => false,
        }
    }

    /// Members of one or the other.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut out = Vec::with_capacity(self.0.len().max(other.0.len()));
        merge(&self.0, &other.0, |a, b| match (a, b) {
            (Some(a), Some(b)) => out.push(Node {
                element: a.element.clone(),
                member: a.member || b.member,
                below: a.below.union(&b.below),
            }),
            (Some(one), None) | (None, Some(one)) => out.push(one.clone()),
            (None, None) => {}
        });
        Self(out)
    }

    /// Members of this that are not members of the other.
    pub(super) fn difference(&self, other: &Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return self.clone();
        }
        let mut out = Self::default();
        merge(&self.0, &other.0, |a, b| match (a, b) {
            (Some(a), Some(b)) => {
                let branch = Branch { member: a.member && !b.member, below: a.below.difference(&b.below) };
                out.push(&a.element, branch);
            }
            (Some(a), None) => out.0.push(a.clone()),
            _ => {}
        });
        out
    }

    /// Members of both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        merge(&self.0, &other.0, |a, b| {
            if let (Some(a), Some(b)) = (a, b) {
                let branch = Branch { member: a.member && b.member, below: a.below.intersection(&b.below) };
                out.push(&a.element, branch);
            }
        });
        out
    }

    /// Takes a path of fields and everything below it out.
    pub(super) fn cut<S: AsRef<str>>(&mut self, path: &[S]) {
        let Some((first, rest)) = path.split_first() else { return };
        let element = Element::Field(first.as_ref().to_owned());
        let Ok(at) = self.0.binary_search_by(|node| node.element.cmp(&element)) else { return };
        if !rest.is_empty() {
            self.0[at].below.cut(rest);
        }
        if rest.is_empty() || (!self.0[at].member && self.0[at].below.is_empty()) {
            self.0.remove(at);
        }
    }

    /// Takes one path of fields out, and leaves what is below.
    pub(super) fn remove<S: AsRef<str>>(&mut self, path: &[S]) {
        let Some((first, rest)) = path.split_first() else { return };
        let element = Element::Field(first.as_ref().to_owned());
        let Ok(at) = self.0.binary_search_by(|node| node.element.cmp(&element)) else { return };
        if rest.is_empty() {
            self.0[at].member = false;
        } else {
            self.0[at].below.remove(rest);
        }
        if !self.0[at].member && self.0[at].below.is_empty() {
            self.0.remove(at);
        }
    }

    /// What lies at or below one of the paths of fields; `*` in a path is any element.
    pub(super) fn only(&self, paths: &[&[&str]]) -> Self {
        let mut out = Self::default();
        for node in &self.0 {
            let rest: Vec<&[&str]> = paths
                .iter()
                .filter_map(|path| path.split_first())
                .filter(|(first, _)| match &node.element {
                    _ if **first == "*" => true,
                    Element::Field(name) => name == **first,
                    _ => false,
                })
                .map(|(_, rest)| rest)
                .collect();
            if rest.iter().any(|rest| rest.is_empty()) {
                out.0.push(node.clone());
            } else if !rest.is_empty() {
                out.push(&node.element, Branch { member: false, below: node.below.only(&rest) });
            }
        }
        out
    }

    /// Every member as conflicts name it: those of one level before those below.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths("", &mut out);
        out
    }

    fn collect_paths(&self, prefix: &str, out: &mut Vec<String>) {
        out.extend(self.0.iter().filter(|n| n.member).map(|n| format!("{prefix}{}", n.element)));
        for node in self.0.iter().filter(|n| !n.below.is_empty()) {
            node.below.collect_paths(&format!("{prefix}{}", node.element), out);
        }
    }

    /// The form that is stored.
    pub(super) fn encode(&self) -> Value {
        let mut map = Map::new();
        for node in &self.0 {
            let mut below = node.below.encode();
            if let (true, Value::Object(below)) = (node.member && !node.below.is_empty(), &mut below) {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(node.element.encode(), below);
        }
        Value::Object(map)
    }

    /// Reads the form that is stored; `None` for what is no set.
    pub(super) fn decode(fields: &Value) -> Option<Self> {
        Self::decode_at(fields, 0).map(|branch| branch.below)
    }

    fn decode_at(fields: &Value, depth: usize) -> Option<Branch> {
        let map = fields.as_object().filter(|_| depth <= DEPTH_MAX)?;
        let mut branch = Branch { member: map.is_empty(), below: Self::default() };
        for (key, value) in map {
            if key == "." {
                branch.member = true;
            } else {
                branch.below.add(Element::parse(key)?, Self::decode_at(value, depth + 1)?);
            }
        }
        Some(branch)
    }
}

/// Walks two sorted lists at once.
fn merge<'a>(a: &'a [Node], b: &'a [Node], mut each: impl FnMut(Option<&'a Node>, Option<&'a Node>)) {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.element.cmp(&y.element),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        match order {
            Ordering::Less => each(a.next(), None),
            Ordering::Greater => each(None, b.next()),
            Ordering::Equal => each(a.next(), b.next()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(fields: Value) -> Set {
        Set::decode(&fields).unwrap()
    }

    #[test]
    fn sets_survive_their_stored_form() {
        let fields = json!({"f:data": {".": {}, "f:a": {}}, "f:spec": {"f:ports": {"k:{\"port\":80}": {".": {}, "f:port": {}}},
            "f:tags": {"v:\"x\"": {}}}});
        assert_eq!(set(fields.clone()).encode(), fields);
        assert!(set(json!({})).is_empty());
        assert_eq!(Set::decode(&json!({"data": {}})), None);
        assert_eq!(Set::decode(&json!([])), None);
    }

    #[test]
    fn operations_look_at_members_alone() {
        let a = set(json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}, "f:x": {}}));
        let b = set(json!({"f:data": {"f:b": {}, "f:c": {}}, "f:y": {}}));
        let rows = [
            (
                a.union(&b),
                json!({"f:data": {".": {}, "f:a": {}, "f:b": {}, "f:c": {}}, "f:x": {}, "f:y": {}}),
            ),
            (a.difference(&b), json!({"f:data": {".": {}, "f:a": {}}, "f:x": {}})),
            (b.difference(&a), json!({"f:data": {"f:c": {}}, "f:y": {}})),
            (a.intersection(&b), json!({"f:data": {"f:b": {}}})),
        ];
        for (got, want) in rows {
            assert_eq!(got.encode(), want);
        }
        assert_eq!(a.paths(), [".data", ".x", ".data.a", ".data.b"]);
    }

    #[test]
    fn parts_are_cut_out_and_kept() {
        let mut a = set(json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:status": {"f:x": {}}}));
        a.cut(&["status"]);
        a.cut(&["metadata", "annotations"]);
        assert_eq!(a.encode(), json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}));
        a.remove(&["metadata", "labels"]);
        assert_eq!(a.encode(), json!({"f:metadata": {"f:labels": {"f:a": {}}}}));
        let b = set(
            json!({"f:spec": {"f:c": {"k:{\"n\":1}": {".": {}, "f:resources": {"f:x": {}}}}, "f:d": {}}}),
        );
        let only = b.only(&[&["spec", "c", "*", "resources"]]);
        assert_eq!(only.encode(), json!({"f:spec": {"f:c": {"k:{\"n\":1}": {"f:resources": {"f:x": {}}}}}}));
    }
}
