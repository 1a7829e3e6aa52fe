//! Role-based access control as a pure decision: may this user do this?
//!
//! [`Index`] holds roles and bindings turned around: from a subject straight to the rules it
//! was granted, cluster-wide and per namespace. A decision looks at the grants of the user
//! and of each group and at nothing else, so that its cost does not depend on how many roles
//! and bindings a cluster has. Changes are applied one object at a time; a binding may name
//! a role that does not exist yet.
//!
//! Matching follows `k8s.io/api/rbac/v1`: rules only ever add rights, members of
//! [`MASTERS`] may do everything, and whoever hands out rights must own them
//! ([`uncovered`]).

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The group whose members may do everything, whatever the roles say.
pub const MASTERS: &str = "system:masters";
/// API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
const ANY: &str = "*";

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs; `*` is any.
    #[serde(deserialize_with = "null_is_empty")]
    pub verbs: Vec<String>,
    /// API groups; `""` is the core group, `*` any.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources: `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names that the rule is limited to; empty means all.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths that are no resources; a trailing `*` matches any rest.
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// Whom a binding grants rights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`; anything else matches nobody.
    pub kind: String,
    /// The name.
    pub name: String,
    /// Namespace of a ServiceAccount; in a RoleBinding it defaults to the binding's.
    pub namespace: Option<String>,
}

/// The role that a binding grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The rules of a Role or ClusterRole object; what cannot be read grants nothing.
#[must_use]
pub fn rules_of(role: &Value) -> Vec<Rule> {
    role.get("rules").and_then(|rules| Vec::<Rule>::deserialize(rules).ok()).unwrap_or_default()
}

/// Subjects and role of a binding object; what cannot be read grants nothing.
#[must_use]
pub fn binding_of(binding: &Value) -> (Vec<Subject>, RoleRef) {
    let subjects =
        binding.get("subjects").and_then(|s| Vec::<Subject>::deserialize(s).ok()).unwrap_or_default();
    let role = binding.get("roleRef").and_then(|r| RoleRef::deserialize(r).ok()).unwrap_or_default();
    (subjects, role)
}

/// What is to be done to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A resource of the API.
    Resource {
        /// API group; empty is core.
        group: &'a str,
        /// Plural.
        plural: &'a str,
        /// Subresource.
        subresource: Option<&'a str>,
        /// Namespace; `None` is the whole cluster.
        namespace: Option<&'a str>,
        /// Name; `None` is the collection.
        name: Option<&'a str>,
    },
    /// Any other path.
    Path(&'a str),
}

/// A question: may `user` do `verb` to `target`?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// User name.
    pub user: &'a str,
    /// Groups of the user.
    pub groups: &'a [String],
    /// Verb.
    pub verb: &'a str,
    /// Object of the verb.
    pub target: Target<'a>,
}

/// "User … cannot …", as kube-apiserver words a refusal.
impl fmt::Display for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User {:?} cannot {} ", self.user, self.verb)?;
        let (group, plural, subresource, namespace) = match self.target {
            Target::Path(path) => return write!(f, "path {path:?}"),
            Target::Resource { group, plural, subresource, namespace, .. } => {
                (group, plural, subresource, namespace)
            }
        };
        match subresource {
            Some(sub) => write!(f, "resource \"{plural}/{sub}\"")?,
            None => write!(f, "resource {plural:?}")?,
        }
        write!(f, " in API group {group:?} ")?;
        match namespace {
            Some(namespace) => write!(f, "in the namespace {namespace:?}"),
            None => f.write_str("at the cluster scope"),
        }
    }
}

/// Why something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant<'a> {
    /// The user is in [`MASTERS`].
    Master,
    /// A binding grants it.
    Binding {
        /// Namespace of the RoleBinding; `None` for a ClusterRoleBinding.
        namespace: Option<&'a str>,
        /// Name of the binding.
        name: &'a str,
        /// Kind of the role.
        role_kind: &'a str,
        /// Name of the role.
        role: &'a str,
    },
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => write!(f, "allowed to members of {MASTERS:?}"),
            Self::Binding { namespace: None, name, role_kind, role } => {
                write!(f, "RBAC: allowed by ClusterRoleBinding {name:?} of {role_kind} {role:?}")
            }
            Self::Binding { namespace: Some(namespace), name, role_kind, role } => {
                write!(f, "RBAC: allowed by RoleBinding \"{name}/{namespace}\" of {role_kind} {role:?}")
            }
        }
    }
}

/// Namespace (`None` for the cluster-wide kinds) and name.
type Key = (Option<String>, String);
/// Position of a role in [`Index::roles`].
type RoleId = usize;
/// Position of a binding in [`Index::bindings`].
type BindingId = usize;

/// A role that exists, or that some binding names.
#[derive(Debug, Clone, Default)]
struct RoleSlot {
    key: Key,
    rules: Option<Vec<Rule>>,
    /// How many bindings name it; at 0 and without rules the slot is free.
    bindings: usize,
}

#[derive(Debug, Clone, Default)]
struct BindingSlot {
    key: Key,
    role: RoleId,
    /// Where it is entered: user or group, and whose name.
    subjects: Vec<(Principal, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Principal {
    User,
    Group,
}

/// What one user or group was granted.
#[derive(Debug, Clone, Default)]
struct Grants {
    cluster: Vec<BindingId>,
    namespaced: HashMap<String, Vec<BindingId>>,
}

impl Grants {
    fn list(&mut self, namespace: Option<&String>) -> &mut Vec<BindingId> {
        match namespace {
            None => &mut self.cluster,
            Some(namespace) => self.namespaced.entry(namespace.clone()).or_default(),
        }
    }

    fn forget(&mut self, namespace: Option<&String>, binding: BindingId) {
        let list = self.list(namespace);
        list.retain(|b| *b != binding);
        if let Some(namespace) = namespace.filter(|_| list.is_empty()) {
            self.namespaced.remove(namespace);
        }
    }

    fn is_empty(&self) -> bool {
        self.cluster.is_empty() && self.namespaced.is_empty()
    }
}

/// All roles and bindings, arranged for decisions.
#[derive(Debug, Clone, Default)]
pub struct Index {
    roles: Vec<RoleSlot>,
    free_roles: Vec<RoleId>,
    role_ids: HashMap<Key, RoleId>,
    bindings: Vec<BindingSlot>,
    free_bindings: Vec<BindingId>,
    binding_ids: HashMap<Key, BindingId>,
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
}

impl Index {
    /// An index that grants nothing (but to [`MASTERS`]).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a Role, or a ClusterRole when `namespace` is `None`.
    pub fn set_role(&mut self, namespace: Option<&str>, name: &str, rules: Vec<Rule>) {
        let id = self.role_id((namespace.map(str::to_owned), name.to_owned()));
        self.roles[id].rules = Some(rules);
    }

    /// Removes a role; its bindings stay and grant nothing.
    pub fn remove_role(&mut self, namespace: Option<&str>, name: &str) {
        let key = (namespace.map(str::to_owned), name.to_owned());
        if let Some(&id) = self.role_ids.get(&key) {
            self.roles[id].rules = None;
            self.free_role_if_unused(id);
        }
    }

    /// Adds or replaces a RoleBinding, or a ClusterRoleBinding when `namespace` is `None`.
    pub fn set_binding(&mut self, namespace: Option<&str>, name: &str, subjects: &[Subject], role: &RoleRef) {
        self.remove_binding(namespace, name);
        let role_namespace = match (role.kind.as_str(), namespace) {
            ("Role", Some(namespace)) => Some(namespace.to_owned()),
            ("ClusterRole", _) => None,
            _ => return,
        };
        let role = self.role_id((role_namespace, role.name.clone()));
        self.roles[role].bindings += 1;
        let slot = BindingSlot {
            key: (namespace.map(str::to_owned), name.to_owned()),
            role,
            subjects: subjects.iter().filter_map(|s| principal(s, namespace)).collect(),
        };
        let id = self.free_bindings.pop().unwrap_or(self.bindings.len());
        for (principal, subject) in &slot.subjects {
            let grants = match principal {
                Principal::User => self.users.entry(subject.clone()).or_default(),
                Principal::Group => self.groups.entry(subject.clone()).or_default(),
            };
            let list = grants.list(slot.key.0.as_ref());
            if !list.contains(&id) {
                list.push(id);
            }
        }
        self.binding_ids.insert(slot.key.clone(), id);
        if id == self.bindings.len() {
            self.bindings.push(slot);
        } else {
            self.bindings[id] = slot;
        }
    }

    /// Removes a binding.
    pub fn remove_binding(&mut self, namespace: Option<&str>, name: &str) {
        let key = (namespace.map(str::to_owned), name.to_owned());
        let Some(id) = self.binding_ids.remove(&key) else { return };
        let slot = std::mem::take(&mut self.bindings[id]);
        for (principal, subject) in &slot.subjects {
            let map = match principal {
                Principal::User => &mut self.users,
                Principal::Group => &mut self.groups,
            };
            if let Some(grants) = map.get_mut(subject) {
                grants.forget(slot.key.0.as_ref(), id);
                if grants.is_empty() {
                    map.remove(subject);
                }
            }
        }
        self.free_bindings.push(id);
        self.roles[slot.role].bindings -= 1;
        self.free_role_if_unused(slot.role);
    }

    /// The grant that allows `what`, or `None` when nothing does.
    #[must_use]
    pub fn allows(&self, what: &Attributes<'_>) -> Option<Grant<'_>> {
        if what.groups.iter().any(|g| g == MASTERS) {
            return Some(Grant::Master);
        }
        let namespace = match what.target {
            Target::Resource { namespace, .. } => namespace,
            Target::Path(_) => None,
        };
        self.granted(what.user, what.groups, namespace)
            .find(|slot| self.rules(slot).iter().any(|rule| rule.allows(what.verb, &what.target)))
            .map(|slot| {
                let role = &self.roles[slot.role].key;
                Grant::Binding {
                    namespace: slot.key.0.as_deref(),
                    name: &slot.key.1,
                    role_kind: if role.0.is_some() { "Role" } else { "ClusterRole" },
                    role: &role.1,
                }
            })
    }

    /// Every rule that a user has in a namespace, or cluster-wide with `None`. Members of
    /// [`MASTERS`] get the rules that bindings give them, which by default is everything.
    pub fn rules_for<'a>(
        &'a self,
        user: &'a str,
        groups: &'a [String],
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Rule> {
        self.granted(user, groups, namespace).flat_map(move |slot| self.rules(slot))
    }

    /// The rules of a role; `None` when there is no such role.
    #[must_use]
    pub fn role(&self, namespace: Option<&str>, name: &str) -> Option<&[Rule]> {
        let id = self.role_ids.get(&(namespace.map(str::to_owned), name.to_owned()))?;
        self.roles[*id].rules.as_deref()
    }

    /// The bindings that name the user or one of the groups and reach into `namespace`.
    fn granted<'s, 'q>(
        &'s self,
        user: &'q str,
        groups: &'q [String],
        namespace: Option<&'q str>,
    ) -> impl Iterator<Item = &'s BindingSlot> + use<'s, 'q> {
        let of_user = self.users.get(user).into_iter();
        let of_groups = groups.iter().filter_map(move |g| self.groups.get(g));
        of_user
            .chain(of_groups)
            .flat_map(move |grants| {
                let local = namespace.and_then(|n| grants.namespaced.get(n)).map_or(&[][..], Vec::as_slice);
                grants.cluster.iter().chain(local)
            })
            .map(move |id| &self.bindings[*id])
    }

    fn rules(&self, slot: &BindingSlot) -> &[Rule] {
        self.roles[slot.role].rules.as_deref().unwrap_or_default()
    }

    fn role_id(&mut self, key: Key) -> RoleId {
        if let Some(&id) = self.role_ids.get(&key) {
            return id;
        }
        let slot = RoleSlot { key: key.clone(), rules: None, bindings: 0 };
        let id = match self.free_roles.pop() {
            Some(id) => {
                self.roles[id] = slot;
                id
            }
            None => {
                self.roles.push(slot);
                self.roles.len() - 1
            }
        };
        self.role_ids.insert(key, id);
        id
    }

    fn free_role_if_unused(&mut self, id: RoleId) {
        if self.roles[id].rules.is_none() && self.roles[id].bindings == 0 {
            let slot = std::mem::take(&mut self.roles[id]);
            self.role_ids.remove(&slot.key);
            self.free_roles.push(id);
        }
    }
}

/// The user or group that a subject stands for. A ServiceAccount is the user
/// `system:serviceaccount:<namespace>:<name>`.
fn principal(subject: &Subject, binding_namespace: Option<&str>) -> Option<(Principal, String)> {
    match subject.kind.as_str() {
        "User" => Some((Principal::User, subject.name.clone())),
        "Group" => Some((Principal::Group, subject.name.clone())),
        "ServiceAccount" => {
            let own = subject.namespace.as_deref().filter(|n| !n.is_empty());
            let namespace = own.or(binding_namespace)?;
            Some((Principal::User, format!("system:serviceaccount:{namespace}:{}", subject.name)))
        }
        _ => None,
    }
}

impl Rule {
    /// Whether the rule allows `verb` on `target`.
    #[must_use]
    pub fn allows(&self, verb: &str, target: &Target<'_>) -> bool {
        if !matches(&self.verbs, verb) {
            return false;
        }
        match *target {
            Target::Path(path) => self.non_resource_urls.iter().any(|pattern| path_matches(pattern, path)),
            Target::Resource { group, plural, subresource, name, .. } => {
                matches(&self.api_groups, group)
                    && self.resources.iter().any(|pattern| resource_matches(pattern, plural, subresource))
                    && (self.resource_names.is_empty()
                        || name.is_some_and(|name| self.resource_names.iter().any(|n| n == name)))
            }
        }
    }
}

fn matches(patterns: &[String], value: &str) -> bool {
    patterns.iter().any(|p| p == ANY || p == value)
}

fn resource_matches(pattern: &str, plural: &str, subresource: Option<&str>) -> bool {
    if pattern == ANY {
        return true;
    }
    match (pattern.split_once('/'), subresource) {
        (None, None) => pattern == plural,
        (Some((resource, sub)), Some(wanted)) => sub == wanted && (resource == ANY || resource == plural),
        _ => false,
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// The part of `wanted` that `owned` does not cover, one verb, group and resource (and name)
/// per rule: what somebody who owns `owned` may not hand out. Empty when all is covered.
#[must_use]
pub fn uncovered(owned: &[&Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(atoms).filter(|atom| !owned.iter().any(|rule| rule.covers(atom))).collect()
}

impl Rule {
    /// Whether the rule allows all that an atomic rule (see [`atoms`]) does.
    fn covers(&self, atom: &Self) -> bool {
        if !atom.verbs.iter().all(|v| matches(&self.verbs, v)) {
            return false;
        }
        if !atom.non_resource_urls.is_empty() {
            return atom.non_resource_urls.iter().all(|path| {
                self.non_resource_urls.iter().any(|pattern| pattern == path || path_matches(pattern, path))
            });
        }
        let names_covered = if atom.resource_names.is_empty() {
            self.resource_names.is_empty()
        } else {
            self.resource_names.is_empty()
                || atom.resource_names.iter().all(|n| self.resource_names.contains(n))
        };
        names_covered
            && atom.api_groups.iter().all(|g| matches(&self.api_groups, g))
            && atom.resources.iter().all(|resource| {
                let (plural, sub) =
                    resource.split_once('/').map_or((resource.as_str(), None), |(p, s)| (p, Some(s)));
                self.resources
                    .iter()
                    .any(|pattern| pattern == resource || resource_matches(pattern, plural, sub))
            })
    }
}

/// Splits a rule into rules of one verb on one thing.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        for path in &rule.non_resource_urls {
            atoms.push(Rule {
                verbs: vec![verb.clone()],
                non_resource_urls: vec![path.clone()],
                ..Rule::default()
            });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let atom = Rule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    atoms.push(atom);
                    continue;
                }
                atoms.extend(
                    rule.resource_names
                        .iter()
                        .map(|n| Rule { resource_names: vec![n.clone()], ..atom.clone() }),
                );
            }
        }
    }
    atoms
}

/// The rules of an aggregated ClusterRole: those of the given roles in order, each once.
#[must_use]
pub fn aggregate<'a>(roles: impl IntoIterator<Item = &'a [Rule]>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for rule in roles.into_iter().flatten() {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

#[cfg(test)]
mod tests;
