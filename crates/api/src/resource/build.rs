//! How the rows of the table are written down: a row per resource, with what differs from the
//! usual.

use std::borrow::Cow::Borrowed;

use super::{Column, Resource, Scope, Str, Subresource};

/// The verbs of a resource that is stored and can be changed.
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The verbs of a part that can be read and written.
const PART_VERBS: &[&str] = &["get", "patch", "update"];

fn strs(list: &[&'static str]) -> Vec<Str> {
    list.iter().copied().map(Borrowed).collect()
}

fn row(group: &'static str, version: &'static str, names: [&'static str; 3], scope: Scope) -> Resource {
    let [plural, singular, kind] = names;
    Resource {
        group: Borrowed(group),
        version: Borrowed(version),
        plural: Borrowed(plural),
        singular: Borrowed(singular),
        kind: Borrowed(kind),
        list_kind: format!("{kind}List").into(),
        scope,
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: strs(VERBS),
        subresources: Vec::new(),
        columns: Vec::new(),
        schema: Resource::definition(group, version, kind).into(),
    }
}

/// A resource whose objects live in namespaces.
pub(super) fn namespaced(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
) -> Resource {
    row(group, version, [plural, singular, kind], Scope::Namespaced)
}

/// A resource whose objects belong to the cluster.
pub(super) fn cluster(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
) -> Resource {
    row(group, version, [plural, singular, kind], Scope::Cluster)
}

impl Resource {
    pub(super) fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = strs(names);
        self
    }

    pub(super) fn category(mut self, names: &[&'static str]) -> Self {
        self.categories = strs(names);
        self
    }

    pub(super) fn verbs(mut self, verbs: &[&'static str]) -> Self {
        self.verbs = strs(verbs);
        self
    }

    pub(super) fn sub(
        mut self,
        name: &'static str,
        (group, version, kind): (&'static str, &'static str, &'static str),
        verbs: &[&'static str],
    ) -> Self {
        self.subresources.push(Subresource {
            name: Borrowed(name),
            group: Borrowed(group),
            version: Borrowed(version),
            kind: Borrowed(kind),
            verbs: strs(verbs),
        });
        self
    }

    pub(super) fn status(self) -> Self {
        let kind = match &self.kind {
            Borrowed(kind) => *kind,
            Str::Owned(_) => "",
        };
        self.sub("status", ("", "", kind), PART_VERBS)
    }

    pub(super) fn scale(self) -> Self {
        self.sub("scale", ("autoscaling", "v1", "Scale"), PART_VERBS)
    }

    pub(super) fn columns(mut self, columns: &[(&'static str, &'static str, &'static str, u8)]) -> Self {
        self.columns = columns
            .iter()
            .map(|&(name, ty, format, priority)| Column {
                name: Borrowed(name),
                ty: Borrowed(ty),
                format: Borrowed(format),
                priority,
                description: Borrowed(describe(name)),
                json_path: Borrowed(""),
            })
            .collect();
        self
    }
}

/// What the columns that many kinds share tell.
fn describe(column: &str) -> &'static str {
    match column {
        "Name" => "The object's name, unique among its kind in a namespace.",
        "Age" | "Created At" => "How long ago the object was created.",
        "Status" => "The state that the object is in.",
        "Ready" => "How many of those wanted are ready.",
        "Restarts" => "How often containers were restarted, and when last.",
        "Selector" | "Pod-Selector" => "The labels that choose the object's pods.",
        "Containers" => "The names of the containers of the pod template.",
        "Images" => "The images of the containers of the pod template.",
        _ => "",
    }
}
