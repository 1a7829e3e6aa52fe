//! Builders for the tests of this module: `MakePod::new("p").req(&[("cpu", "1")]).info()`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerImage, ContainerPort, Node, NodeAffinity, NodeSelector,
    NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSchedulingGate, PodSpec, PreferredSchedulingTerm,
    ResourceRequirements, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::cluster::Cluster;
use super::node_info::NodeInfo;
use super::pod_info::PodInfo;

/// A rule of node affinity: key, operator, values.
pub(crate) type Rule<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Builds a pod of namespace `default`.
#[derive(Clone)]
pub(crate) struct MakePod(Pod);

/// Builds a node, and the pods on it.
#[derive(Clone)]
pub(crate) struct MakeNode {
    node: Node,
    pods: Vec<MakePod>,
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

fn list(amounts: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    amounts.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
}

fn container(requests: &[(&str, &str)]) -> Container {
    let resources =
        ResourceRequirements { requests: Some(list(requests)), ..ResourceRequirements::default() };
    Container { name: "c".into(), resources: Some(resources), ..Container::default() }
}

fn rule((key, operator, values): &Rule<'_>) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: (*key).to_owned(),
        operator: (*operator).to_owned(),
        values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
    }
}

impl MakePod {
    pub(crate) fn new(name: &str) -> Self {
        let mut pod = Pod::default();
        pod.metadata.name = text(name);
        pod.metadata.namespace = text("default");
        pod.spec = Some(PodSpec::default());
        Self(pod)
    }

    fn edit(mut self, change: impl FnOnce(&mut PodSpec)) -> Self {
        change(self.0.spec.get_or_insert_default());
        self
    }

    fn add(self, container: Container) -> Self {
        self.edit(|spec| spec.containers.push(container))
    }

    fn add_init(self, container: Container) -> Self {
        self.edit(|spec| spec.init_containers.get_or_insert_default().push(container))
    }

    fn affinity(self, change: impl FnOnce(&mut NodeAffinity)) -> Self {
        self.edit(|spec| {
            let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
            change(affinity.node_affinity.get_or_insert_default());
        })
    }

    fn term(self, term: NodeSelectorTerm) -> Self {
        self.affinity(|affinity| {
            let required: &mut NodeSelector =
                affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default();
            required.node_selector_terms.push(term);
        })
    }

    pub(crate) fn req(self, requests: &[(&str, &str)]) -> Self {
        self.add(container(requests))
    }

    pub(crate) fn init_req(self, requests: &[(&str, &str)]) -> Self {
        self.add_init(container(requests))
    }

    pub(crate) fn sidecar_req(self, requests: &[(&str, &str)]) -> Self {
        self.add_init(Container { restart_policy: text("Always"), ..container(requests) })
    }

    pub(crate) fn pod_req(self, requests: &[(&str, &str)]) -> Self {
        let requests = ResourceRequirements { requests: Some(list(requests)), ..Default::default() };
        self.edit(|spec| spec.resources = Some(requests))
    }

    pub(crate) fn overhead(self, overhead: &[(&str, &str)]) -> Self {
        self.edit(|spec| spec.overhead = Some(list(overhead)))
    }

    pub(crate) fn image(self, image: &str) -> Self {
        self.add(Container { image: text(image), ..container(&[]) })
    }

    pub(crate) fn host_port(self, protocol: &str, ip: &str, port: i32) -> Self {
        let port = ContainerPort {
            protocol: text(protocol),
            host_ip: text(ip),
            host_port: Some(port),
            container_port: port,
            ..ContainerPort::default()
        };
        self.add(Container { ports: Some(vec![port]), ..container(&[]) })
    }

    pub(crate) fn node(self, name: &str) -> Self {
        self.edit(|spec| spec.node_name = text(name))
    }

    pub(crate) fn priority(self, priority: i32) -> Self {
        self.edit(|spec| spec.priority = Some(priority))
    }

    pub(crate) fn preemption_policy(self, policy: &str) -> Self {
        self.edit(|spec| spec.preemption_policy = text(policy))
    }

    pub(crate) fn gate(self, name: &str) -> Self {
        let gate = PodSchedulingGate { name: name.to_owned() };
        self.edit(|spec| spec.scheduling_gates.get_or_insert_default().push(gate))
    }

    pub(crate) fn tolerate(self, key: &str, operator: &str, value: &str, effect: &str) -> Self {
        let toleration = Toleration {
            key: text(key),
            operator: text(operator),
            value: text(value),
            effect: text(effect),
            toleration_seconds: None,
        };
        self.edit(|spec| spec.tolerations.get_or_insert_default().push(toleration))
    }

    pub(crate) fn node_selector(self, key: &str, value: &str) -> Self {
        self.edit(|spec| {
            spec.node_selector.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        })
    }

    /// Adds an alternative to the required node affinity.
    pub(crate) fn node_affinity(self, rules: &[Rule<'_>]) -> Self {
        let rules = rules.iter().map(rule).collect();
        self.term(NodeSelectorTerm { match_expressions: Some(rules), match_fields: None })
    }

    pub(crate) fn on_named_nodes(self, names: &[&str]) -> Self {
        let rules = vec![rule(&("metadata.name", "In", names))];
        self.term(NodeSelectorTerm { match_expressions: None, match_fields: Some(rules) })
    }

    pub(crate) fn prefer(self, weight: i32, key: &str, value: &str) -> Self {
        let rules = vec![rule(&(key, "In", &[value]))];
        let preference = NodeSelectorTerm { match_expressions: Some(rules), match_fields: None };
        self.affinity(|affinity| {
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .get_or_insert_default()
                .push(PreferredSchedulingTerm { preference, weight });
        })
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn obj(self) -> Pod {
        self.0
    }

    pub(crate) fn info(self) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(Arc::new(self.0)))
    }
}

impl MakeNode {
    /// A node with room for much.
    pub(crate) fn new(name: &str) -> Self {
        let mut node = Node::default();
        node.metadata.name = text(name);
        let made = Self { node, pods: Vec::new() };
        made.capacity(&[("cpu", "32"), ("memory", "64Gi"), ("pods", "110")])
    }

    pub(crate) fn capacity(mut self, amounts: &[(&str, &str)]) -> Self {
        self.node.status.get_or_insert_default().allocatable = Some(list(amounts));
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.node.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        let taint =
            Taint { key: key.to_owned(), value: text(value), effect: effect.to_owned(), time_added: None };
        self.node.spec.get_or_insert_default().taints.get_or_insert_default().push(taint);
        self
    }

    pub(crate) fn cordon(mut self) -> Self {
        self.node.spec.get_or_insert_default().unschedulable = Some(true);
        self
    }

    pub(crate) fn image(mut self, name: &str, size: i64) -> Self {
        let image = ContainerImage { names: Some(vec![name.to_owned()]), size_bytes: Some(size) };
        self.node.status.get_or_insert_default().images.get_or_insert_default().push(image);
        self
    }

    /// Puts a pod on the node.
    pub(crate) fn pod(mut self, pod: MakePod) -> Self {
        self.pods.push(pod);
        self
    }

    pub(crate) fn arc(self) -> Arc<Node> {
        Arc::new(self.node)
    }

    pub(crate) fn info(self) -> NodeInfo {
        let mut info = NodeInfo::new(self.node.metadata.name.clone().unwrap_or_default().into());
        info.set_node(Some(Arc::new(self.node)));
        for pod in self.pods {
            info.add_pod(pod.info());
        }
        info
    }

    pub(crate) fn add_to(self, cluster: &mut Cluster) {
        let name = self.node.metadata.name.clone().unwrap_or_default();
        for pod in self.pods {
            cluster.set_pod(pod.node(&name).info());
        }
        cluster.set_node(&Arc::new(self.node));
    }
}
