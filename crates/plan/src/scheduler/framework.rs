//! The scheduling framework: kube-scheduler's extension points as traits, and the plugins
//! that were registered for each. A plugin names itself, registers for its points, and says
//! which events may help a pod that it rejected.
//!
//! | point | question |
//! |---|---|
//! | `PreEnqueue` | may the pod be tried at all? |
//! | `QueueSort` | which pod is next? |
//! | `PreFilter` | what must be known once per pod; can only some nodes do? |
//! | `Filter` | can this node run the pod? |
//! | `PostFilter` | no node can: what else could help? |
//! | `PreScore` | what must be known once per pod about those that can? |
//! | `Score`, normalisation | how good is the node? |
//! | `Reserve` | take what the pod needs besides the node |
//! | `Permit` | may it be bound now? |
//! | `PreBind`, `Bind` | what is to be written? |
//! | `PostBind` | it is bound |

use std::any::Any;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::BitOr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;

use super::cluster::Cluster;
use super::node_info::NodeInfo;
use super::pod_info::PodInfo;

/// The best score that a plugin gives a node; the worst is 0.
pub const SCORE_MAX: i64 = 100;

/// A rule of the scheduler.
pub trait Plugin: Send + Sync {
    /// The name Kubernetes gives it.
    fn name(&self) -> &'static str;

    /// Registers for its extension points.
    fn register(&'static self, points: &mut ExtensionPoints);

    /// Events that may help a pod that this plugin rejected.
    fn interest(&self) -> Interest {
        Interest::NONE
    }

    /// Whether an event of [`Plugin::interest`] may help this pod.
    fn hint(&self, _pod: &PodInfo, _event: &ClusterEvent<'_>) -> bool {
        true
    }
}

/// May the pod be tried at all?
pub trait PreEnqueue: Plugin {
    /// An error keeps the pod waiting until it is changed.
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection>;
}

/// Which pod is next?
pub trait QueueSort: Plugin {
    /// Where a pod stands that became ready to be tried at `since`; the lowest is next.
    fn rank(&self, pod: &PodInfo, since: Duration) -> Rank;
}

/// A pod's place in the queue.
pub type Rank = (Reverse<i32>, Duration);

/// Once per pod, before its nodes are looked at.
pub trait PreFilter: Plugin {
    /// An error says that no node can do.
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        cluster: &Cluster,
    ) -> Result<PreFiltered, Rejection>;
}

/// What a [`PreFilter`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreFiltered {
    /// Every node may do.
    Any,
    /// Every node will do: the plugin's [`Filter`] need not be asked for this pod.
    Skip,
    /// Only these may do.
    Only(Vec<Arc<str>>),
}

/// Can this node run the pod?
pub trait Filter: Plugin {
    /// An error says why not.
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection>;
}

/// No node can: what else could help?
pub trait PostFilter: Plugin {
    /// What there is to say beyond the reasons of the nodes; empty for nothing.
    fn post_filter(&self, pod: &PodInfo, cluster: &Cluster, rejections: &[(Arc<str>, Rejection)]) -> String;
}

/// Once per pod, before the nodes that can run it are compared.
pub trait PreScore: Plugin {
    /// [`PreScored::Skip`] when every node would score the same.
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[&NodeInfo]) -> PreScored;
}

/// What a [`PreScore`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreScored {
    /// The nodes differ.
    Score,
    /// The plugin's [`Score`] need not be asked for this pod.
    Skip,
}

/// How good is the node?
pub trait Score: Plugin {
    /// A number that [`Score::normalize`] brings to 0..=[`SCORE_MAX`].
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, cluster: &Cluster) -> i64;

    /// Brings the scores of all nodes into range.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Takes what the pod needs besides the node.
pub trait Reserve: Plugin {
    /// An error undoes the reservations of all plugins.
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Result<(), Rejection>;

    /// Gives it back; also called when nothing was taken.
    fn unreserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str);
}

/// May the pod be bound now?
pub trait Permit: Plugin {
    /// An error says why not. Waiting for others comes with the first plugin that needs it.
    fn permit(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Result<(), Rejection>;
}

/// What is to be written before the binding?
pub trait PreBind: Plugin {
    /// Carried out in order; a failure gives the node up.
    fn pre_bind(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Vec<Action>;
}

/// How is the pod given its node?
pub trait Bind: Plugin {
    /// `None` leaves it to the next plugin.
    fn bind(&self, pod: &PodInfo, node: &str) -> Option<Action>;
}

/// It is bound.
pub trait PostBind: Plugin {
    /// Cannot change it any more.
    fn post_bind(&self, pod: &PodInfo, node: &str);
}

/// A write that the driver carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Create the pod's `binding` subresource.
    Bind {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        name: String,
        /// Uid of the pod, so that a successor of the same name is not bound in its stead.
        uid: Option<String>,
        /// The node.
        node: String,
    },
}

/// Why a pod cannot run, on a node or at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The plugin that says so.
    pub plugin: &'static str,
    /// Whether removing other pods could help.
    pub resolvable: bool,
    /// As users know them.
    pub reasons: Vec<Cow<'static, str>>,
}

impl Rejection {
    /// Removing other pods could help.
    pub fn new(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { plugin, resolvable: true, reasons: vec![reason.into()] }
    }

    /// Removing other pods would not help.
    pub fn unresolvable(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { resolvable: false, ..Self::new(plugin, reason) }
    }
}

/// What plugins remember within one cycle.
#[derive(Default)]
pub struct CycleState {
    notes: Vec<(&'static str, Box<dyn Any + Send + Sync>)>,
}

impl CycleState {
    /// Remembers a plugin's value; it replaces an earlier one.
    pub fn write<T: Any + Send + Sync>(&mut self, plugin: &'static str, value: T) {
        self.notes.retain(|(name, _)| *name != plugin);
        self.notes.push((plugin, Box::new(value)));
    }

    /// The plugin's value, if it remembers one of this type.
    pub fn read<T: Any>(&self, plugin: &str) -> Option<&T> {
        let (_, value) = self.notes.iter().find(|(name, _)| *name == plugin)?;
        value.downcast_ref()
    }
}

/// The plugins of each extension point, in their order.
#[derive(Default)]
pub struct ExtensionPoints {
    pub(super) pre_enqueue: Vec<&'static dyn PreEnqueue>,
    pub(super) queue_sort: Option<&'static dyn QueueSort>,
    pub(super) pre_filter: Vec<&'static dyn PreFilter>,
    pub(super) filter: Vec<&'static dyn Filter>,
    pub(super) post_filter: Vec<&'static dyn PostFilter>,
    pub(super) pre_score: Vec<&'static dyn PreScore>,
    pub(super) score: Vec<(&'static dyn Score, i64)>,
    pub(super) reserve: Vec<&'static dyn Reserve>,
    pub(super) permit: Vec<&'static dyn Permit>,
    pub(super) pre_bind: Vec<&'static dyn PreBind>,
    pub(super) bind: Vec<&'static dyn Bind>,
    pub(super) post_bind: Vec<&'static dyn PostBind>,
}

/// A set of plugins at work.
pub struct Framework {
    plugins: Vec<&'static dyn Plugin>,
    pub(super) points: ExtensionPoints,
    interest: Interest,
}

impl Framework {
    /// The framework of some plugins; see [`super::plugins::ALL`] for the usual ones.
    pub fn new(plugins: &[&'static dyn Plugin]) -> Self {
        let mut points = ExtensionPoints::default();
        let mut interest = Interest::NONE;
        for plugin in plugins {
            plugin.register(&mut points);
            interest = interest | plugin.interest();
        }
        Self { plugins: plugins.to_vec(), points, interest }
    }

    /// Whether the pod may be tried.
    pub fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        self.points.pre_enqueue.iter().try_for_each(|plugin| plugin.pre_enqueue(pod))
    }

    /// Where a pod stands in the queue; first come first served without a [`QueueSort`].
    pub fn rank(&self, pod: &PodInfo, since: Duration) -> Rank {
        self.points.queue_sort.map_or((Reverse(0), since), |plugin| plugin.rank(pod, since))
    }

    /// Whether an event may help any pod at all.
    pub fn is_interested(&self, event: &ClusterEvent<'_>) -> bool {
        self.interest.contains(event.kind())
    }

    /// Whether an event may help a pod that these plugins rejected. A pod that nobody
    /// rejected, since there was no node to ask about, is helped by any.
    pub fn may_help(&self, pod: &PodInfo, rejected_by: &[&'static str], event: &ClusterEvent<'_>) -> bool {
        rejected_by.is_empty()
            || self.plugins.iter().any(|plugin| {
                rejected_by.contains(&plugin.name())
                    && plugin.interest().contains(event.kind())
                    && plugin.hint(pod, event)
            })
    }

    /// Reserves, then asks for permission; on failure everything is given back.
    pub fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Result<(), Rejection> {
        let outcome =
            self.points.reserve.iter().try_for_each(|plugin| plugin.reserve(state, pod, node)).and_then(
                |()| self.points.permit.iter().try_for_each(|plugin| plugin.permit(state, pod, node)),
            );
        if outcome.is_err() {
            self.unreserve(state, pod, node);
        }
        outcome
    }

    /// Gives back what was reserved, in the opposite order.
    pub fn unreserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) {
        for plugin in self.points.reserve.iter().rev() {
            plugin.unreserve(state, pod, node);
        }
    }

    /// Everything that is to be written to bind a pod, in order.
    pub fn binding(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Vec<Action> {
        let before = self.points.pre_bind.iter().flat_map(|plugin| plugin.pre_bind(state, pod, node));
        let bind = self.points.bind.iter().find_map(|plugin| plugin.bind(pod, node));
        before.chain(bind).collect()
    }

    /// Tells that the pod is bound.
    pub fn post_bind(&self, pod: &PodInfo, node: &str) {
        for plugin in &self.points.post_bind {
            plugin.post_bind(pod, node);
        }
    }
}

/// Something happened that may help a waiting pod.
#[derive(Debug)]
pub enum ClusterEvent<'a> {
    /// A node came.
    NodeAdded(&'a NodeInfo),
    /// A node changed in these respects, of which there is at least one.
    NodeUpdated(&'a NodeInfo, NodeChange),
    /// A pod left its node, or takes less of it than before.
    PodLeft(&'a PodInfo),
}

impl ClusterEvent<'_> {
    fn kind(&self) -> Interest {
        match self {
            Self::NodeAdded(_) => Interest::NODE_ADDED,
            Self::NodeUpdated(_, change) => change.0,
            Self::PodLeft(_) => Interest::POD_LEFT,
        }
    }
}

/// A set of kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// No event.
    pub const NONE: Self = Self(0);
    /// A node came.
    pub const NODE_ADDED: Self = Self(1);
    /// A node's allocatable resources changed.
    pub const NODE_ALLOCATABLE: Self = Self(2);
    /// A node's labels changed.
    pub const NODE_LABELS: Self = Self(4);
    /// A node's taints changed, or whether it is cordoned.
    pub const NODE_TAINTS: Self = Self(8);
    /// A pod left its node.
    pub const POD_LEFT: Self = Self(16);

    /// Whether the sets have a kind in common.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// In what respects a node changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeChange(Interest);

impl NodeChange {
    /// In none that matters to pods.
    pub const NONE: Self = Self(Interest::NONE);
    /// It is new.
    pub const ADDED: Self = Self(Interest::NODE_ADDED);

    /// The difference between what was known of a node and what is.
    pub fn between(old: Option<&Node>, new: &Node) -> Self {
        let Some(old) = old else { return Self::ADDED };
        let mut change = Interest::NONE;
        let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
        if allocatable(old) != allocatable(new) {
            change = change | Interest::NODE_ALLOCATABLE;
        }
        if old.metadata.labels != new.metadata.labels {
            change = change | Interest::NODE_LABELS;
        }
        let old = old.spec.as_ref();
        let new = new.spec.as_ref();
        let taints = old.and_then(|spec| spec.taints.as_ref()) != new.and_then(|spec| spec.taints.as_ref());
        let cordoned = old.and_then(|spec| spec.unschedulable) != new.and_then(|spec| spec.unschedulable);
        if taints || cordoned {
            change = change | Interest::NODE_TAINTS;
        }
        Self(change)
    }
}
