//! The nodes of the cluster and the pods on them, assumed ones included: what a scheduling
//! cycle looks at. Every change is an increment; nothing here is proportional to the cluster
//! but iterating over its nodes.
//!
//! A pod that was given a node is *assumed* to be there before the API says so. Once its
//! binding was written the assumption has a deadline: should the API never confirm it, the
//! pod's share of the node is freed again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;

use super::framework::NodeChange;
use super::node_info::NodeInfo;
use super::pod_info::{PodInfo, Uid};

/// How long a written binding may remain unconfirmed. Informers lag by milliseconds; a
/// confirmation that takes this long will not come.
pub const ASSUMED_TTL: Duration = Duration::from_secs(30);

/// The scheduler's picture of the cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    index: HashMap<Arc<str>, usize>,
    /// Those of `nodes` whose object is known.
    known: usize,
    pods: HashMap<Uid, Placed>,
    /// Written, unconfirmed bindings by deadline.
    deadlines: BTreeSet<(Duration, Uid)>,
    /// On how many nodes an image is.
    image_nodes: HashMap<String, usize>,
}

/// A pod that has a node.
#[derive(Debug)]
struct Placed {
    info: Arc<PodInfo>,
    node: Arc<str>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The API says so.
    Confirmed,
    /// Its binding is being written.
    Assumed,
    /// Its binding was written.
    Written { deadline: Duration },
}

impl Cluster {
    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.known
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// A node, if its object is known.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|at| &self.nodes[*at]).filter(|info| info.node().is_some())
    }

    /// The nodes, beginning at some turn; the order only changes when nodes come and go.
    pub fn nodes_from(&self, turn: usize) -> impl Iterator<Item = &NodeInfo> {
        let start = turn.checked_rem(self.nodes.len()).unwrap_or(0);
        let (before, after) = self.nodes.split_at(start);
        after.iter().chain(before).filter(|info| info.node().is_some())
    }

    /// On how many nodes an image is.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    /// Whether the pod has a node, or is assumed to.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// Takes in a node's object; tells what changed about it that may matter to pods.
    pub fn set_node(&mut self, node: &Arc<Node>) -> NodeChange {
        let Some(name) = node.metadata.name.as_deref() else { return NodeChange::NONE };
        let at = self.slot(name);
        let info = &mut self.nodes[at];
        let change = NodeChange::between(info.node(), node);
        let before: Vec<String> = info.images().keys().cloned().collect();
        if info.node().is_none() {
            self.known += 1;
        }
        info.set_node(Some(Arc::clone(node)));
        for image in info.images().keys() {
            *self.image_nodes.entry(image.clone()).or_default() += 1;
        }
        self.forget_images(&before);
        change
    }

    /// A node's object is gone; pods that were on it remain until they are gone too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(&at) = self.index.get(name) else { return };
        let info = &mut self.nodes[at];
        if info.node().is_none() {
            return;
        }
        let images: Vec<String> = info.images().keys().cloned().collect();
        info.set_node(None);
        self.known -= 1;
        self.forget_images(&images);
        self.drop_if_empty(at);
    }

    /// Takes in a pod that has a node according to the API; gives what was known of it.
    pub fn set_pod(&mut self, info: Arc<PodInfo>) -> Option<Arc<PodInfo>> {
        let node: Arc<str> = info.node_name().map(Arc::from)?;
        let known = self.remove_pod(&info.uid);
        self.place(info, node, State::Confirmed);
        known
    }

    /// Assumes a pod to be on a node while its binding is being written.
    pub fn assume(&mut self, info: Arc<PodInfo>, node: Arc<str>) {
        self.remove_pod(&info.uid);
        self.place(info, node, State::Assumed);
    }

    /// The binding of an assumed pod was written.
    pub fn binding_written(&mut self, uid: &Uid, now: Duration) {
        let Some(placed) = self.pods.get_mut(uid) else { return };
        if placed.state == State::Assumed {
            let deadline = now + ASSUMED_TTL;
            placed.state = State::Written { deadline };
            self.deadlines.insert((deadline, Arc::clone(uid)));
        }
    }

    /// The binding of an assumed pod failed. A pod that the API has confirmed stays.
    pub fn forget(&mut self, uid: &Uid) -> bool {
        let assumed = self.pods.get(uid).is_some_and(|placed| placed.state != State::Confirmed);
        if assumed {
            self.remove_pod(uid);
        }
        assumed
    }

    /// A pod is gone, or takes nothing any more.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let placed = self.pods.remove(uid)?;
        if let State::Written { deadline } = placed.state {
            self.deadlines.remove(&(deadline, Arc::clone(&placed.info.uid)));
        }
        if let Some(&at) = self.index.get(&placed.node) {
            self.nodes[at].remove_pod(uid);
            self.drop_if_empty(at);
        }
        Some(placed.info)
    }

    /// Forgets written bindings that were never confirmed, and tells which.
    pub fn expire(&mut self, now: Duration) -> Vec<Arc<PodInfo>> {
        let mut expired = Vec::new();
        while let Some((deadline, uid)) = self.deadlines.first().cloned() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(&(deadline, Arc::clone(&uid)));
            expired.extend(self.remove_pod(&uid));
        }
        expired
    }

    /// When [`Cluster::expire`] next has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn place(&mut self, info: Arc<PodInfo>, node: Arc<str>, state: State) {
        let at = self.slot(&node);
        self.nodes[at].add_pod(Arc::clone(&info));
        self.pods.insert(Arc::clone(&info.uid), Placed { info, node, state });
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(&at) = self.index.get(name) {
            return at;
        }
        let name: Arc<str> = name.into();
        self.nodes.push(NodeInfo::new(Arc::clone(&name)));
        self.index.insert(name, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn drop_if_empty(&mut self, at: usize) {
        let info = &self.nodes[at];
        if info.node().is_some() || info.pod_count() > 0 {
            return;
        }
        let gone = self.nodes.swap_remove(at);
        self.index.remove(gone.name());
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(Arc::clone(moved.name()), at);
        }
    }

    fn forget_images(&mut self, images: &[String]) {
        for image in images {
            if let Some(count) = self.image_nodes.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.image_nodes.remove(image);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    fn cpu(cluster: &Cluster, node: &str) -> i64 {
        cluster.node(node).unwrap().requested().milli_cpu
    }

    fn names(cluster: &Cluster, turn: usize) -> Vec<&str> {
        cluster.nodes_from(turn).map(|info| &**info.name()).collect()
    }

    #[test]
    fn sums_follow_the_pods() {
        let mut cluster = Cluster::default();
        cluster.set_node(&MakeNode::new("a").arc());
        cluster.set_pod(MakePod::new("p").req(&[("cpu", "1")]).node("a").info());
        cluster.set_pod(MakePod::new("q").req(&[("cpu", "2")]).node("a").info());
        assert_eq!(cpu(&cluster, "a"), 3000);
        cluster.set_pod(MakePod::new("q").req(&[("cpu", "500m")]).node("a").info());
        assert_eq!(cpu(&cluster, "a"), 1500);
        assert!(cluster.remove_pod("default/p").is_some());
        assert!(cluster.remove_pod("default/p").is_none());
        assert_eq!(cpu(&cluster, "a"), 500);
    }

    #[test]
    fn pods_may_be_known_before_their_node_and_outlive_it() {
        let mut cluster = Cluster::default();
        cluster.set_pod(MakePod::new("p").req(&[("cpu", "1")]).node("a").info());
        assert!(cluster.is_empty() && cluster.node("a").is_none());
        cluster.set_node(&MakeNode::new("a").arc());
        assert_eq!((cluster.len(), cpu(&cluster, "a")), (1, 1000));
        cluster.remove_node("a");
        assert!(cluster.is_empty() && names(&cluster, 0).is_empty());
        cluster.remove_pod("default/p");
        assert!(cluster.nodes.is_empty() && cluster.index.is_empty());
    }

    #[test]
    fn assumptions_are_confirmed_forgotten_or_expire() {
        let mut cluster = Cluster::default();
        cluster.set_node(&MakeNode::new("a").arc());
        let at = Duration::from_secs;
        let pod = MakePod::new("p").req(&[("cpu", "1")]);
        let uid = pod.clone().info().uid.clone();
        let assume = |cluster: &mut Cluster| {
            cluster.assume(pod.clone().info(), "a".into());
            assert_eq!(cpu(cluster, "a"), 1000);
        };
        assume(&mut cluster);
        assert!(cluster.forget(&uid));
        assert_eq!(cpu(&cluster, "a"), 0);

        assume(&mut cluster);
        assert_eq!(cluster.next_deadline(), None, "not before it is written");
        cluster.binding_written(&uid, at(5));
        assert_eq!(cluster.next_deadline(), Some(at(5) + ASSUMED_TTL));
        assert!(cluster.expire(at(5)).is_empty());
        assert_eq!(cluster.expire(at(5) + ASSUMED_TTL).len(), 1);
        assert_eq!(cpu(&cluster, "a"), 0);

        assume(&mut cluster);
        cluster.binding_written(&uid, at(5));
        cluster.set_pod(pod.clone().node("a").info());
        assert_eq!(cluster.next_deadline(), None);
        assert!(!cluster.forget(&uid), "confirmed");
        assert_eq!(cpu(&cluster, "a"), 1000);
    }

    #[test]
    fn iteration_begins_where_told() {
        let mut cluster = Cluster::default();
        for name in ["a", "b", "c"] {
            cluster.set_node(&MakeNode::new(name).arc());
        }
        assert_eq!(names(&cluster, 0), ["a", "b", "c"]);
        assert_eq!(names(&cluster, 4), ["b", "c", "a"]);
        cluster.remove_node("a");
        assert_eq!(names(&cluster, 0), ["c", "b"]);
        assert!(cluster.node("c").is_some());
    }

    #[test]
    fn images_are_counted_over_nodes() {
        let mut cluster = Cluster::default();
        cluster.set_node(&MakeNode::new("a").image("x:1", 10).arc());
        cluster.set_node(&MakeNode::new("b").image("x:1", 10).arc());
        assert_eq!(cluster.nodes_with_image("x:1"), 2);
        cluster.set_node(&MakeNode::new("b").arc());
        assert_eq!(cluster.nodes_with_image("x:1"), 1);
        cluster.remove_node("a");
        assert_eq!(cluster.nodes_with_image("x:1"), 0);
    }
}
