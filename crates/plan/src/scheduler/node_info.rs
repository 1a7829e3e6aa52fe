//! A node with what its pods take, kept as sums so that a look at a node costs the same
//! however many pods it runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use super::pod_info::{HostPort, PodInfo, Uid};
use super::resources::{Resources, allocatable_pods};

/// A node as the scheduler sees it.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    name: Arc<str>,
    node: Option<Arc<Node>>,
    allocatable: Resources,
    allocatable_pods: i64,
    requested: Resources,
    usage: Resources,
    pods: HashMap<Uid, Arc<PodInfo>>,
    ports: HashMap<(String, i32), Vec<String>>,
    images: HashMap<String, i64>,
    priorities: BTreeMap<i32, usize>,
}

impl NodeInfo {
    /// A node whose object is not known yet.
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            node: None,
            allocatable: Resources::default(),
            allocatable_pods: 0,
            requested: Resources::default(),
            usage: Resources::default(),
            pods: HashMap::new(),
            ports: HashMap::new(),
            images: HashMap::new(),
            priorities: BTreeMap::new(),
        }
    }

    /// Name of the node.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The object; pods may be known to be on a node that itself is not known.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// A label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node()?.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        let spec = self.node().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    /// Whether it was cordoned.
    pub fn is_unschedulable(&self) -> bool {
        let spec = self.node().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
    }

    /// What pods may take of it.
    pub fn allocatable(&self) -> &Resources {
        &self.allocatable
    }

    /// How many pods it may run.
    pub fn allocatable_pods(&self) -> i64 {
        self.allocatable_pods
    }

    /// What its pods asked for.
    pub fn requested(&self) -> &Resources {
        &self.requested
    }

    /// What its pods are taken to use.
    pub fn usage(&self) -> &Resources {
        &self.usage
    }

    /// How many pods it has.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// Images that it holds, by name, with their sizes in bytes.
    pub fn images(&self) -> &HashMap<String, i64> {
        &self.images
    }

    /// The lowest priority among its pods.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }

    /// Whether one of its pods has a port that cannot be shared with `wanted`.
    pub fn has_port_conflict(&self, wanted: &HostPort) -> bool {
        let taken = self.ports.get(&(wanted.protocol.clone(), wanted.port));
        taken.is_some_and(|ips| ips.iter().any(|ip| ips_conflict(ip, &wanted.ip)))
    }

    pub(super) fn set_node(&mut self, node: Option<Arc<Node>>) {
        let status = node.as_ref().and_then(|node| node.status.as_ref());
        let list = status.and_then(|status| status.allocatable.as_ref());
        self.allocatable = list.map(Resources::from_list).unwrap_or_default();
        self.allocatable_pods = list.map_or(0, allocatable_pods);
        let images = status.and_then(|status| status.images.as_deref()).unwrap_or_default();
        self.images = images
            .iter()
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.clone(), size))
            })
            .collect();
        self.node = node;
    }

    pub(super) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.usage.add(&pod.usage);
        *self.priorities.entry(pod.priority).or_default() += 1;
        for port in &pod.host_ports {
            let key = (port.protocol.clone(), port.port);
            self.ports.entry(key).or_default().push(port.ip.clone());
        }
        self.pods.insert(Arc::clone(&pod.uid), pod);
    }

    pub(super) fn remove_pod(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else { return };
        self.requested.subtract(&pod.requests);
        self.usage.subtract(&pod.usage);
        if let Some(count) = self.priorities.get_mut(&pod.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&pod.priority);
            }
        }
        for port in &pod.host_ports {
            let key = (port.protocol.clone(), port.port);
            let Some(ips) = self.ports.get_mut(&key) else { continue };
            if let Some(index) = ips.iter().position(|ip| *ip == port.ip) {
                ips.swap_remove(index);
            }
            if ips.is_empty() {
                self.ports.remove(&key);
            }
        }
    }
}

/// An empty address is every address.
fn ips_conflict(one: &str, other: &str) -> bool {
    one.is_empty() || other.is_empty() || one == other
}
