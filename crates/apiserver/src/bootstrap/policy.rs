//! The default roles and bindings.
//!
//! [`roles`] and [`bindings`] are the whole list. The roles for users (`admin`, `edit`,
//! `view`) are aggregations: their rules are those of the roles labelled for them, joined
//! here for a new cluster. Each component has the rights that it uses and no more.

mod roles;

use coracle_plan::rbac::{GROUP, Rule, rules_of, uncovered};
use serde_json::{Value, json};

use super::Wanted;
use roles::{CLUSTER_ROLES, aggregated, rules};

/// Marks what the server made itself.
const BOOTSTRAP_LABEL: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
/// Whether a default role or binding is brought up to date at start: anything but `false`.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Prefix of the labels by which aggregated roles choose.
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Everything, ready to be written.
pub(super) fn wanted() -> Vec<Wanted> {
    let mut all = Vec::new();
    for (name, label, text) in CLUSTER_ROLES {
        let value = cluster_role(name, *label, &rules(text));
        all.push(Wanted { renew: add_rules, ..Wanted::once(GROUP, "clusterroles", value) });
    }
    for (name, label, chosen) in aggregated() {
        let mut value = cluster_role(name, label, &chosen);
        let selector = json!({ "matchLabels": { format!("{AGGREGATE_TO}{name}"): "true" } });
        value["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
        all.push(Wanted { renew: add_rules, ..Wanted::once(GROUP, "clusterroles", value) });
    }
    for (name, role, subjects) in bindings() {
        all.push(Wanted::once(
            GROUP,
            "clusterrolebindings",
            binding(name, None, "ClusterRole", role, &subjects),
        ));
    }
    all.extend(authentication_reader());
    all
}

/// Who gets which cluster role: name of the binding, role, subjects.
fn bindings() -> Vec<(&'static str, &'static str, Vec<Value>)> {
    let mut all = vec![
        ("cluster-admin", "cluster-admin", vec![group("system:masters")]),
        ("system:discovery", "system:discovery", vec![group("system:authenticated")]),
        ("system:basic-user", "system:basic-user", vec![group("system:authenticated")]),
        (
            "system:public-info-viewer",
            "system:public-info-viewer",
            vec![group("system:authenticated"), group("system:unauthenticated")],
        ),
        ("system:monitoring", "system:monitoring", vec![group("system:monitoring")]),
        ("system:node", "system:node", vec![group("system:nodes")]),
        ("system:node-proxier", "system:node-proxier", vec![user("system:kube-proxy")]),
        ("system:kube-scheduler", "system:kube-scheduler", vec![user("system:kube-scheduler")]),
        (
            "system:kube-controller-manager",
            "system:kube-controller-manager",
            vec![user("system:kube-controller-manager")],
        ),
    ];
    // Controllers run as one identity; each one's own ServiceAccount is bound as well, so
    // that a controller that runs alone needs no more than its own rights.
    for &(name, ..) in CLUSTER_ROLES.iter().filter(|(name, ..)| name.starts_with("system:controller:")) {
        let account = name.trim_start_matches("system:controller:");
        let account = json!({ "kind": "ServiceAccount", "name": account, "namespace": "kube-system" });
        all.push((name, name, vec![account, user("system:kube-controller-manager")]));
    }
    all
}

/// Lets servers that extend the API read whom it trusts.
fn authentication_reader() -> [Wanted; 2] {
    let name = "extension-apiserver-authentication-reader";
    let rule = Rule {
        resource_names: vec!["extension-apiserver-authentication".to_owned()],
        ..rules("get list watch | core | configmaps").remove(0)
    };
    let mut role = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "Role",
        "metadata": metadata(name, None),
        "rules": [rule],
    });
    role["metadata"]["namespace"] = "kube-system".into();
    let subjects = [user("system:kube-controller-manager"), user("system:kube-scheduler")];
    let bound = binding(
        "system::extension-apiserver-authentication-reader",
        Some("kube-system"),
        "Role",
        name,
        &subjects,
    );
    [Wanted::once(GROUP, "roles", role), Wanted::once(GROUP, "rolebindings", bound)]
}

fn metadata(name: &str, aggregate_to: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": { BOOTSTRAP_LABEL.0: BOOTSTRAP_LABEL.1 },
        "annotations": { AUTOUPDATE: "true" },
    });
    if let Some(target) = aggregate_to {
        metadata["labels"][format!("{AGGREGATE_TO}{target}")] = "true".into();
    }
    metadata
}

fn cluster_role(name: &str, aggregate_to: Option<&str>, rules: &[Rule]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRole",
        "metadata": metadata(name, aggregate_to),
        "rules": rules,
    })
}

fn binding(name: &str, namespace: Option<&str>, role_kind: &str, role: &str, subjects: &[Value]) -> Value {
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    let mut value = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": metadata(name, None),
        "roleRef": { "apiGroup": GROUP, "kind": role_kind, "name": role },
        "subjects": subjects,
    });
    if let Some(namespace) = namespace {
        value["metadata"]["namespace"] = namespace.into();
    }
    value
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "apiGroup": GROUP, "name": name })
}

fn group(name: &str) -> Value {
    json!({ "kind": "Group", "apiGroup": GROUP, "name": name })
}

/// Adds to a stored default role the rules that this version has and it lacks. Rules that
/// an operator added stay; one who wants less sets the annotation to `false`.
fn add_rules(stored: &Value, wanted: &Value) -> Option<Value> {
    if stored["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let owned = rules_of(stored);
    let missing: Vec<Rule> = {
        let owned: Vec<&Rule> = owned.iter().collect();
        rules_of(wanted)
            .into_iter()
            .filter(|rule| !uncovered(&owned, std::slice::from_ref(rule)).is_empty())
            .collect()
    };
    if missing.is_empty() {
        return None;
    }
    let mut renewed = stored.clone();
    renewed["rules"] = json!(owned.into_iter().chain(missing).collect::<Vec<_>>());
    Some(renewed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_plan::rbac::{Attributes, Index, Target, binding_of};

    fn index() -> Index {
        let mut index = Index::new();
        for wanted in wanted() {
            let (name, namespace) = (
                coracle_api::meta::name(&wanted.value).to_owned(),
                Some(coracle_api::meta::namespace(&wanted.value))
                    .filter(|n| !n.is_empty())
                    .map(str::to_owned),
            );
            if wanted.plural.ends_with("bindings") {
                let (subjects, role) = binding_of(&wanted.value);
                index.set_binding(namespace.as_deref(), &name, &subjects, &role);
            } else {
                index.set_role(namespace.as_deref(), &name, rules_of(&wanted.value));
            }
        }
        index
    }

    fn may(index: &Index, user: &str, groups: &[&str], verb: &str, at: &str) -> bool {
        let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        let target = match at.strip_prefix('/') {
            Some(_) => Target::Path(at),
            None => {
                let (group, resource) = at.split_once(' ').unwrap_or(("", at));
                let (plural, sub) = resource.split_once('/').map_or((resource, None), |(p, s)| (p, Some(s)));
                Target::Resource {
                    group,
                    plural,
                    subresource: sub,
                    namespace: Some("kube-system"),
                    name: Some("x"),
                }
            }
        };
        index.allows(&Attributes { user, groups: &groups, verb, target }).is_some()
    }

    #[test]
    fn components_may_do_their_work_and_users_may_do_nothing() {
        let index = index();
        let table: &[(&str, &[&str], &str, &str, bool)] = &[
            ("system:kube-scheduler", &[], "create", "pods/binding", true),
            ("system:kube-scheduler", &[], "update", "coordination.k8s.io leases", true),
            ("system:kube-scheduler", &[], "get", "secrets", false),
            ("system:kube-controller-manager", &[], "list", "stable.example.com crontabs", true),
            ("system:kube-controller-manager", &[], "create", "apps replicasets", true),
            ("system:kube-controller-manager", &[], "create", "pods", true),
            ("system:kube-controller-manager", &[], "patch", "nodes", true),
            ("system:kube-proxy", &[], "watch", "discovery.k8s.io endpointslices", true),
            ("system:kube-proxy", &[], "create", "pods", false),
            ("system:node:a", &["system:nodes"], "create", "serviceaccounts/token", true),
            ("system:node:a", &["system:nodes"], "patch", "nodes/status", true),
            ("system:node:a", &["system:nodes"], "create", "clusterroles", false),
            ("ann", &["system:authenticated"], "get", "pods", false),
            ("ann", &["system:authenticated"], "get", "/apis", true),
            ("ann", &["system:authenticated"], "get", "/metrics", false),
            ("system:anonymous", &["system:unauthenticated"], "get", "/version", true),
            ("system:anonymous", &["system:unauthenticated"], "get", "/api", false),
            ("system:anonymous", &["system:unauthenticated"], "create", "pods", false),
        ];
        for (user, groups, verb, at, want) in table {
            assert_eq!(may(&index, user, groups, verb, at), *want, "{user} {verb} {at}");
        }
    }

    #[test]
    fn aggregated_roles_hold_what_is_labelled_for_them() {
        let index = index();
        let has = |role: &str, verb: &str, plural: &str| {
            let target =
                Target::Resource { group: "", plural, subresource: None, namespace: Some("n"), name: None };
            index.role(None, role).unwrap().iter().any(|rule| rule.allows(verb, &target))
        };
        assert!(
            has("view", "list", "pods") && !has("view", "list", "secrets") && !has("view", "create", "pods")
        );
        assert!(
            has("edit", "list", "pods") && has("edit", "create", "pods") && has("edit", "get", "secrets")
        );
        assert!(has("admin", "create", "pods") && has("admin", "get", "resourcequotas"));
    }

    #[test]
    fn only_missing_rules_are_added() {
        let wanted = cluster_role("r", None, &rules("get list | core | pods"));
        assert_eq!(add_rules(&wanted, &wanted), None);
        let mut more = wanted.clone();
        more["rules"] = json!(rules("get list watch | core | pods nodes"));
        assert_eq!(add_rules(&more, &wanted), None, "an operator's rules stay");
        let mut less = cluster_role("r", None, &rules("get | core | pods"));
        assert_eq!(rules_of(&add_rules(&less, &wanted).unwrap()).len(), 2);
        less["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(add_rules(&less, &wanted), None);
    }
}
