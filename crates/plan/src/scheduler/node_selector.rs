//! Whether a node is one that a pod's `nodeSelector` and node affinity mean.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use super::node_info::NodeInfo;

/// The only field that a term may match.
const NAME_FIELD: &str = "metadata.name";

/// Whether the node satisfies everything that the pod requires of it.
pub fn matches_required(spec: &PodSpec, node: &NodeInfo) -> bool {
    let selected =
        spec.node_selector.iter().flatten().all(|(key, value)| node.label(key) == Some(value.as_str()));
    selected && required(spec).is_none_or(|selector| matches_any(selector, node))
}

/// Whether the node satisfies one term.
pub fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        // A term that says nothing means no node.
        return false;
    }
    let field = |key: &str| (key == NAME_FIELD).then_some(&**node.name());
    labels.iter().all(|rule| holds(rule, node.label(&rule.key)))
        && fields.iter().all(|rule| holds(rule, field(&rule.key)))
}

/// The names of the only nodes that can match, where the terms say so: a daemon's pod names
/// its node this way, and need not be tried on the others.
pub fn named_nodes(spec: &PodSpec) -> Option<Vec<&str>> {
    let terms = &required(spec)?.node_selector_terms;
    let mut names = Vec::new();
    for term in terms {
        let mut fields = term.match_fields.iter().flatten();
        let rule = fields.find(|rule| rule.key == NAME_FIELD && rule.operator == "In")?;
        names.extend(rule.values.iter().flatten().map(String::as_str));
    }
    names.sort_unstable();
    names.dedup();
    Some(names)
}

fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    affinity.required_during_scheduling_ignored_during_execution.as_ref()
}

fn matches_any(selector: &NodeSelector, node: &NodeInfo) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

fn holds(rule: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = rule.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|one| one == value));
    match rule.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers(value, values).is_some_and(|(have, limit)| have > limit),
        "Lt" => numbers(value, values).is_some_and(|(have, limit)| have < limit),
        _ => false,
    }
}

fn numbers(value: Option<&str>, values: &[String]) -> Option<(i64, i64)> {
    let [limit] = values else { return None };
    Some((value?.parse().ok()?, limit.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    fn fits(pod: MakePod) -> bool {
        let node = MakeNode::new("a").label("zone", "east").label("cores", "8").info();
        matches_required(pod.obj().spec.as_ref().unwrap(), &node)
    }

    #[test]
    fn selectors_and_operators() {
        assert!(fits(MakePod::new("p")));
        assert!(fits(MakePod::new("p").node_selector("zone", "east")));
        assert!(!fits(MakePod::new("p").node_selector("zone", "west")));
        assert!(!fits(MakePod::new("p").node_selector("other", "")));
        let cases: [(&str, &str, &[&str], bool); 12] = [
            ("zone", "In", &["west", "east"], true),
            ("zone", "In", &["west"], false),
            ("zone", "NotIn", &["west"], true),
            ("none", "NotIn", &["west"], true),
            ("zone", "Exists", &[], true),
            ("none", "Exists", &[], false),
            ("none", "DoesNotExist", &[], true),
            ("cores", "Gt", &["7"], true),
            ("cores", "Gt", &["8"], false),
            ("cores", "Lt", &["9"], true),
            ("zone", "Lt", &["9"], false),
            ("zone", "Near", &["east"], false),
        ];
        for (key, operator, values, expected) in cases {
            let pod = MakePod::new("p").node_affinity(&[(key, operator, values)]);
            assert_eq!(fits(pod), expected, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn terms_are_alternatives_and_their_rules_are_not() {
        let east: (&str, &str, &[&str]) = ("zone", "In", &["east"]);
        let none: (&str, &str, &[&str]) = ("none", "Exists", &[]);
        assert!(!fits(MakePod::new("p").node_affinity(&[east, none])));
        assert!(fits(MakePod::new("p").node_affinity(&[none]).node_affinity(&[east])));
        assert!(!fits(MakePod::new("p").node_affinity(&[])));
    }

    #[test]
    fn names_are_known_only_when_every_term_has_some() {
        let names = |pod: MakePod| {
            let pod = pod.obj();
            let names = named_nodes(pod.spec.as_ref().unwrap());
            names.map(|names| names.join(" "))
        };
        assert_eq!(names(MakePod::new("p")), None);
        let daemon = MakePod::new("p").on_named_nodes(&["b", "a"]);
        assert_eq!(names(daemon.clone()), Some("a b".to_owned()));
        assert_eq!(names(daemon.node_affinity(&[("zone", "Exists", &[])])), None);
        assert!(fits(MakePod::new("p").on_named_nodes(&["a"])));
        assert!(!fits(MakePod::new("p").on_named_nodes(&["b"])));
    }
}
