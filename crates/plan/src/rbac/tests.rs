//! Tables for rule matching, bindings, escalation and the cost of a decision.

use super::*;
use serde_json::json;

fn rule(value: Value) -> Rule {
    serde_json::from_value(value).unwrap()
}

fn user(name: &str) -> Subject {
    Subject { kind: "User".into(), name: name.into(), namespace: None }
}

fn group(name: &str) -> Subject {
    Subject { kind: "Group".into(), name: name.into(), namespace: None }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { kind: kind.into(), name: name.into() }
}

fn pods<'a>(namespace: Option<&'a str>, name: Option<&'a str>) -> Target<'a> {
    Target::Resource { group: "", plural: "pods", subresource: None, namespace, name }
}

fn ask<'a>(user: &'a str, groups: &'a [String], verb: &'a str, target: Target<'a>) -> Attributes<'a> {
    Attributes { user, groups, verb, target }
}

#[test]
fn rules_match_verbs_groups_resources_and_names() {
    let sub = |sub| Target::Resource {
        group: "",
        plural: "pods",
        subresource: Some(sub),
        namespace: Some("a"),
        name: Some("p"),
    };
    let table: &[(Value, &str, Target<'_>, bool)] = &[
        (
            json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}),
            "get",
            pods(Some("a"), Some("p")),
            true,
        ),
        (
            json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}),
            "list",
            pods(Some("a"), None),
            false,
        ),
        (json!({"verbs":["*"],"apiGroups":["*"],"resources":["*"]}), "x", sub("log"), true),
        (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}), "get", sub("log"), false),
        (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods/log"]}), "get", sub("log"), true),
        (json!({"verbs":["get"],"apiGroups":[""],"resources":["*/log"]}), "get", sub("log"), true),
        (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods/*"]}), "get", sub("log"), false),
        (json!({"verbs":["get"],"apiGroups":["apps"],"resources":["pods"]}), "get", pods(None, None), false),
        (
            json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["p"]}),
            "get",
            pods(Some("a"), Some("p")),
            true,
        ),
        (
            json!({"verbs":["list"],"apiGroups":[""],"resources":["pods"],"resourceNames":["p"]}),
            "list",
            pods(Some("a"), None),
            false,
        ),
        (
            json!({"verbs":["get"],"nonResourceURLs":["/healthz/*"]}),
            "get",
            Target::Path("/healthz/ping"),
            true,
        ),
        (json!({"verbs":["get"],"nonResourceURLs":["/healthz/*"]}), "get", Target::Path("/healthz"), false),
        (json!({"verbs":["get"],"nonResourceURLs":["*"]}), "get", Target::Path("/x"), true),
        (json!({"verbs":["get"],"nonResourceURLs":["/x"]}), "post", Target::Path("/x"), false),
        (json!({"verbs":null,"apiGroups":null}), "get", Target::Path("/x"), false),
    ];
    for (value, verb, target, want) in table {
        assert_eq!(rule(value.clone()).allows(verb, target), *want, "{value} {verb} {target:?}");
    }
}

#[test]
fn bindings_grant_in_their_scope_only() {
    let mut index = Index::new();
    let read = || vec![rule(json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}))];
    index.set_role(None, "reader", read());
    index.set_role(Some("a"), "local", read());
    index.set_binding(Some("a"), "b1", &[user("ann")], &role_ref("ClusterRole", "reader"));
    index.set_binding(None, "b2", &[group("ops")], &role_ref("ClusterRole", "reader"));
    let robot = Subject { kind: "ServiceAccount".into(), name: "robot".into(), namespace: None };
    index.set_binding(Some("a"), "b3", &[robot], &role_ref("Role", "local"));
    index.set_binding(None, "b4", &[user("eve")], &role_ref("Role", "local"));

    let ops = ["ops".to_owned()];
    let allowed = |who: &str, groups: &[String], ns| {
        index.allows(&ask(who, groups, "get", pods(ns, Some("p")))).is_some()
    };
    assert!(allowed("ann", &[], Some("a")));
    assert!(!allowed("ann", &[], Some("b")));
    assert!(!allowed("ann", &[], None));
    assert!(allowed("bob", &ops, Some("b")));
    assert!(allowed("bob", &ops, None));
    assert!(allowed("system:serviceaccount:a:robot", &[], Some("a")));
    assert!(!allowed("system:serviceaccount:b:robot", &[], Some("a")));
    assert!(!allowed("eve", &[], Some("a")), "a ClusterRoleBinding cannot name a Role");
}

#[test]
fn changes_take_effect_in_any_order_and_leave_nothing_behind() {
    let mut index = Index::new();
    let ask = ask("ann", &[], "get", pods(Some("a"), Some("p")));
    index.set_binding(Some("a"), "b", &[user("ann"), user("ann")], &role_ref("Role", "r"));
    assert!(index.allows(&ask).is_none(), "the role does not exist yet");
    index.set_role(
        Some("a"),
        "r",
        vec![rule(json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}))],
    );
    assert!(index.allows(&ask).is_some());
    index.set_binding(Some("a"), "b", &[user("bob")], &role_ref("Role", "r"));
    assert!(index.allows(&ask).is_none(), "the subject was taken out");
    index.set_binding(Some("a"), "b", &[user("ann")], &role_ref("Role", "r"));
    index.remove_role(Some("a"), "r");
    assert!(index.allows(&ask).is_none());
    index.remove_binding(Some("a"), "b");
    assert!(index.users.is_empty() && index.groups.is_empty());
    assert!(index.role_ids.is_empty() && index.binding_ids.is_empty());
    assert_eq!(
        (index.free_roles.len(), index.free_bindings.len()),
        (index.roles.len(), index.bindings.len())
    );
}

#[test]
fn masters_may_do_everything_without_any_role() {
    let masters = [MASTERS.to_owned()];
    let index = Index::new();
    assert_eq!(index.allows(&ask("x", &masters, "delete", Target::Path("/"))), Some(Grant::Master));
    assert_eq!(index.allows(&ask("x", &[], "delete", Target::Path("/"))), None);
}

#[test]
fn refusals_are_worded_as_by_the_real_server() {
    let ask = |target| ask("x", &[], "list", target).to_string();
    assert_eq!(
        ask(pods(Some("y"), None)),
        "User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"y\""
    );
    assert_eq!(
        ask(pods(None, None)),
        "User \"x\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
    assert_eq!(ask(Target::Path("/api")), "User \"x\" cannot list path \"/api\"");
    let log = Target::Resource {
        group: "apps",
        plural: "deployments",
        subresource: Some("scale"),
        namespace: Some("y"),
        name: Some("d"),
    };
    assert_eq!(
        ask(log),
        "User \"x\" cannot list resource \"deployments/scale\" in API group \"apps\" in the namespace \"y\""
    );
}

#[test]
fn rights_that_one_lacks_cannot_be_handed_out() {
    let own = rule(json!({"verbs":["get","list"],"apiGroups":[""],"resources":["pods","*/log"]}));
    let all = rule(json!({"verbs":["*"],"apiGroups":["*"],"resources":["*"]}));
    let named = rule(json!({"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["s"]}));
    let table: &[(&[&Rule], Value, usize)] = &[
        (&[&own], json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}), 0),
        (&[&own], json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["p"]}), 0),
        (&[&own], json!({"verbs":["get","delete"],"apiGroups":[""],"resources":["pods","secrets"]}), 3),
        (&[&own], json!({"verbs":["get"],"apiGroups":[""],"resources":["pods/log"]}), 0),
        (&[&own], json!({"verbs":["*"],"apiGroups":[""],"resources":["pods"]}), 1),
        (&[&all], json!({"verbs":["*"],"apiGroups":["*"],"resources":["*"]}), 0),
        (&[&named], json!({"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}), 1),
        (
            &[&named],
            json!({"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["s"]}),
            0,
        ),
        (&[&all], json!({"verbs":["get"],"nonResourceURLs":["/metrics"]}), 1),
    ];
    for (owned, wanted, missing) in table {
        assert_eq!(uncovered(owned, &[rule(wanted.clone())]).len(), *missing, "{wanted}");
    }
}

#[test]
fn a_decision_does_not_look_at_other_subjects_roles() {
    let mut index = Index::new();
    for i in 0..1000 {
        let name = format!("r{i}");
        index.set_role(
            None,
            &name,
            vec![rule(json!({"verbs":["get"],"apiGroups":["g"],"resources":[name]}))],
        );
        index.set_binding(None, &name, &[user(&format!("u{i}"))], &role_ref("ClusterRole", &name));
    }
    assert_eq!(index.rules_for("u7", &[], Some("a")).count(), 1);
    let target =
        Target::Resource { group: "g", plural: "r7", subresource: None, namespace: None, name: None };
    let Some(Grant::Binding { name, .. }) = index.allows(&ask("u7", &[], "get", target)) else {
        panic!("not allowed");
    };
    assert_eq!(name, "r7");
    assert!(index.allows(&ask("u8", &[], "get", target)).is_none());
}

#[test]
fn aggregation_keeps_each_rule_once() {
    let a = [rule(json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}))];
    let b = [a[0].clone(), rule(json!({"verbs":["get"],"apiGroups":[""],"resources":["nodes"]}))];
    assert_eq!(aggregate([&a[..], &b[..]]).len(), 2);
}
