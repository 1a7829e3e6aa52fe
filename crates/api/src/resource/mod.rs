//! The table of resources: what the API serves, one row per resource, one file per API group.
//!
//! Custom resources become rows of the same type. Serving, discovery, Table output and RBAC
//! verbs all read rows; nothing else in the code lists resources.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod build;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod dra;
mod events;
mod flowcontrol;
mod networking;
mod node;
mod policy;
mod rbac;
mod scheduling;
mod storage;

/// Text that is static in built-in rows and owned in those of custom resources.
pub type Str = Cow<'static, str>;

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Objects are in a namespace.
    Namespaced,
    /// Objects belong to the cluster.
    Cluster,
}

/// A group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// The API group; empty for core.
    pub group: Str,
    /// The version within the group.
    pub version: Str,
    /// The kind.
    pub kind: Str,
}

impl Gvk {
    /// A kind from owned or static text.
    pub fn new(group: impl Into<Str>, version: impl Into<Str>, kind: impl Into<Str>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// From `apiVersion` and `kind` of an object; `None` if `api_version` has more than one `/`.
    pub fn parse(api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = split_api_version(api_version)?;
        Some(Self::new(group.to_owned(), version.to_owned(), kind.to_owned()))
    }

    /// `group/version`, or `version` in the core group.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}

/// A group, version and resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    /// The API group; empty for core.
    pub group: Str,
    /// The version within the group.
    pub version: Str,
    /// The plural, lower-case name.
    pub resource: Str,
}

/// Splits `apps/v1` and `v1`; `None` if there is more than one `/`.
pub fn split_api_version(text: &str) -> Option<(&str, &str)> {
    match text.split_once('/') {
        None => Some(("", text)),
        Some((_, version)) if version.contains('/') => None,
        Some(parts) => Some(parts),
    }
}

/// Joins a group and a version.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// A column of a resource's Table form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: Str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub ty: Str,
    /// The OpenAPI format; `name` marks the column that identifies the row.
    pub format: Str,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: u8,
    /// What the column tells.
    pub description: Str,
    /// For custom resources, where the cell comes from; empty in built-in rows, which are
    /// rendered by code.
    pub json_path: Str,
}

/// A part of a resource that is addressed on its own, such as `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The last segment of its path.
    pub name: Str,
    /// The group of the kind that it speaks; with `version` empty, the resource's own.
    pub group: Str,
    /// The version of that kind.
    pub version: Str,
    /// The kind that it speaks.
    pub kind: Str,
    /// What can be done with it.
    pub verbs: Vec<Str>,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for core.
    pub group: Str,
    /// The version within the group.
    pub version: Str,
    /// The plural name, as in paths.
    pub plural: Str,
    /// The singular name.
    pub singular: Str,
    /// The kind of its objects.
    pub kind: Str,
    /// The kind of its lists.
    pub list_kind: Str,
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// Abbreviations that kubectl understands.
    pub short_names: Vec<Str>,
    /// Groups of resources such as `all`.
    pub categories: Vec<Str>,
    /// What can be done with the resource itself.
    pub verbs: Vec<Str>,
    /// Its parts.
    pub subresources: Vec<Subresource>,
    /// The columns of its Table form.
    pub columns: Vec<Column>,
    /// The name of its definition: the key into [`crate::schema::builtin`].
    pub schema: Str,
}

impl Resource {
    /// `group/version`, or `version` in the core group.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The row's kind.
    pub fn gvk(&self) -> Gvk {
        Gvk { group: self.group.clone(), version: self.version.clone(), kind: self.kind.clone() }
    }

    /// The row's resource.
    pub fn gvr(&self) -> Gvr {
        Gvr { group: self.group.clone(), version: self.version.clone(), resource: self.plural.clone() }
    }

    /// Whether objects live in namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether the resource itself knows `verb`.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The part called `name`.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// `plural.group`, or `plural` in the core group: how messages name the resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether objects are stored. Reviews and bindings are only answered.
    pub fn is_stored(&self) -> bool {
        self.has_verb("get") && self.plural != "componentstatuses"
    }

    /// The group under which objects are stored: versions and groups that show one and the same
    /// object (events) share it.
    pub fn storage_group(&self) -> &str {
        if self.group == "events.k8s.io" { "" } else { &self.group }
    }

    /// The definition name of the schema of kind `kind`, such as `io.k8s.api.apps.v1.Deployment`.
    pub fn definition(group: &str, version: &str, kind: &str) -> String {
        match group {
            "" => format!("io.k8s.api.core.{version}.{kind}"),
            "apiextensions.k8s.io" => {
                format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
            }
            "apiregistration.k8s.io" => {
                format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}.{kind}")
            }
            "meta.k8s.io" => format!("io.k8s.apimachinery.pkg.apis.meta.{version}.{kind}"),
            _ => format!("io.k8s.api.{}.{version}.{kind}", group.split('.').next().unwrap_or_default()),
        }
    }
}

/// Every built-in row. Groups and versions are in the order in which discovery prefers them.
pub fn builtin() -> &'static [Resource] {
    static TABLE: LazyLock<Vec<Resource>> = LazyLock::new(|| {
        let groups = [
            core::rows,
            apiregistration::rows,
            apps::rows,
            events::rows,
            authentication::rows,
            authorization::rows,
            autoscaling::rows,
            batch::rows,
            certificates::rows,
            networking::rows,
            policy::rows,
            rbac::rows,
            storage::rows,
            admissionregistration::rows,
            apiextensions::rows,
            scheduling::rows,
            coordination::rows,
            node::rows,
            discovery::rows,
            dra::rows,
            flowcontrol::rows,
        ];
        groups.iter().flat_map(|rows: &fn() -> Vec<Resource>| rows()).collect()
    });
    &TABLE
}

/// The built-in row of a resource.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    builtin().iter().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// The built-in row of a kind.
pub fn by_kind(gvk: &Gvk) -> Option<&'static Resource> {
    builtin().iter().find(|r| r.kind == gvk.kind && r.group == gvk.group && r.version == gvk.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rows_are_unique_and_whole() {
        let mut seen = HashSet::new();
        for row in builtin() {
            assert!(seen.insert(row.gvr()), "{row:?}");
            assert!(!row.verbs.is_empty() && !row.singular.is_empty());
            assert_eq!(by_kind(&row.gvk()).unwrap().plural, row.plural);
            assert!(
                row.is_stored() == row.columns.iter().any(|c| c.format == "name")
                    || row.plural == "componentstatuses"
                    || !row.has_verb("list"),
                "{}",
                row.plural
            );
        }
        assert_eq!(builtin().len(), 68);
    }

    #[test]
    fn every_row_has_a_schema() {
        for row in builtin() {
            if row.plural != "componentstatuses" {
                assert!(crate::schema::builtin(&row.schema).is_some(), "{}", row.schema);
            }
        }
    }

    #[test]
    fn lookups_and_names() {
        let row = find("apps", "v1", "deployments").unwrap();
        assert_eq!((row.api_version().as_str(), row.list_kind.as_ref()), ("apps/v1", "DeploymentList"));
        assert_eq!(row.qualified(), "deployments.apps");
        assert_eq!(row.subresource("scale").unwrap().group, "autoscaling");
        assert!(row.subresource("log").is_none() && row.is_namespaced() && row.is_stored());
        assert!(!find("", "v1", "bindings").unwrap().is_stored());
        assert_eq!(find("events.k8s.io", "v1", "events").unwrap().storage_group(), "");
        assert_eq!(split_api_version("a/b/c"), None);
        assert_eq!(Gvk::parse("apps/v1", "Deployment").unwrap().to_string(), "apps/v1, Kind=Deployment");
    }
}
