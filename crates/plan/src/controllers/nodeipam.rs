//! Node IPAM: gives each node a piece of the cluster's pod address range.
//!
//! What is taken is read from the nodes themselves, so nothing has to be remembered and nothing
//! can be given twice: a node keeps its range for life, and a deleted node's range is free. One
//! plan serves all nodes that lack a range; plans must not be made concurrently.

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use super::action::{Plan, Severity, Write};
use super::object;

/// Where ranges come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// All pods' addresses.
    pub cluster: Ipv4Net,
    /// The prefix length of one node's share.
    pub node_mask: u8,
}

/// The nodes and the range.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Every node.
    pub nodes: Vec<Arc<Node>>,
    /// What there is to give.
    pub range: Range,
}

/// Decides; see the module.
#[must_use]
pub fn plan(snapshot: &Snapshot, _now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let taken: Vec<Ipv4Net> =
        snapshot.nodes.iter().flat_map(|node| ranges(node)).filter_map(|r| r.parse().ok()).collect();
    let exact: HashSet<Ipv4Net> = taken.iter().copied().collect();
    // Ranges of another mask (given before a change of settings) need a slower look.
    let odd: Vec<Ipv4Net> =
        taken.into_iter().filter(|range| range.prefix_len() != snapshot.range.node_mask).collect();
    let overlaps = |range: &Ipv4Net| {
        exact.contains(range) || odd.iter().any(|other| other.contains(range) || range.contains(other))
    };
    let subnets = snapshot.range.cluster.subnets(snapshot.range.node_mask);
    let mut free = subnets.into_iter().flatten().filter(|range| !overlaps(range));
    for node in snapshot.nodes.iter().filter(|node| ranges(node).is_empty()) {
        if object::is_deleting(&node.metadata) {
            continue;
        }
        let name = object::name(&node.metadata);
        let Some(range) = free.next() else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            let regarding = object::reference(&**node);
            plan.event(regarding, Severity::Warning, "CIDRNotAvailable", message);
            continue;
        };
        plan.note(format!("{name} gets {range}"));
        let range = range.to_string();
        let patch = json!({
            "metadata": { "uid": node.metadata.uid },
            "spec": { "podCIDR": range, "podCIDRs": [range] },
        });
        plan.write(Write::merge(&**node, patch));
    }
    plan
}

/// The ranges that a node has.
#[must_use]
pub fn ranges(node: &Node) -> Vec<&str> {
    let Some(spec) = node.spec.as_ref() else { return Vec::new() };
    let listed: Vec<&str> = spec.pod_cidrs.iter().flatten().map(String::as_str).collect();
    if listed.is_empty() {
        spec.pod_cidr.as_deref().filter(|range| !range.is_empty()).into_iter().collect()
    } else {
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::action::Patch;
    use crate::controllers::testing::{at, meta};
    use k8s_openapi::api::core::v1::NodeSpec;

    fn node(name: &str, range: Option<&str>) -> Arc<Node> {
        let spec = NodeSpec {
            pod_cidr: range.map(str::to_owned),
            pod_cidrs: range.map(|range| vec![range.to_owned()]),
            ..NodeSpec::default()
        };
        Arc::new(Node { metadata: meta(name), spec: Some(spec), status: None })
    }

    fn given(nodes: Vec<Arc<Node>>, cluster: &str, node_mask: u8) -> (Vec<String>, usize) {
        let range = Range { cluster: cluster.parse().unwrap(), node_mask };
        let plan = plan(&Snapshot { nodes, range }, at(0));
        let given = plan
            .writes()
            .map(|write| match write {
                Write::Patch { patch: Patch::Merge(body), .. } => {
                    body["spec"]["podCIDR"].as_str().unwrap().to_owned()
                }
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        (given, plan.actions.len())
    }

    #[test]
    fn the_first_free_ranges_are_given() {
        let nodes = vec![
            node("a", Some("10.128.0.0/18")),
            node("b", None),
            node("c", Some("10.128.128.0/18")),
            node("d", None),
        ];
        let (given, _) = given(nodes, "10.128.0.0/9", 18);
        assert_eq!(given, ["10.128.64.0/18", "10.128.192.0/18"]);
    }

    #[test]
    fn ranges_of_another_size_are_avoided() {
        let nodes = vec![node("a", Some("10.128.0.0/16")), node("b", None)];
        assert_eq!(given(nodes, "10.128.0.0/9", 18).0, ["10.129.0.0/18"]);
    }

    #[test]
    fn an_exhausted_range_is_told() {
        let nodes = vec![node("a", None), node("b", None)];
        let (given, actions) = given(nodes, "10.128.0.0/24", 24);
        assert_eq!((given.len(), actions), (1, 2));
    }
}
