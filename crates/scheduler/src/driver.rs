//! The scheduler's loop: takes in what changed, decides for pods while there are any and
//! bindings have room, then sleeps until something happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_client::{Change, Informer, Subscription};
use coracle_plan::scheduler::cluster::Cluster;
use coracle_plan::scheduler::framework::{ClusterEvent, Framework, NodeChange};
use coracle_plan::scheduler::plugins::ALL;
use coracle_plan::scheduler::pod_info::{PodInfo, Uid, is_terminal, node_name, uid};
use coracle_plan::scheduler::queue::{Attempt, Queue, Queued};
use coracle_plan::scheduler::schedule::{Placement, schedule};
use k8s_openapi::api::core::v1::{Node, Pod};
use tracing::{debug, warn};

use crate::DEFAULT_NAME;
use crate::binder::{BindError, Binder, Outcome};
use crate::reporter::Reporter;

/// Pods that are decided before the loop looks at what changed meanwhile, and lets other
/// tasks of its thread run.
const BATCH: usize = 32;

/// The task's state.
pub(crate) struct Scheduler {
    name: String,
    framework: Framework,
    cluster: Cluster,
    queue: Queue,
    binder: Binder,
    reporter: Reporter,
    /// Where the next cycle of a large cluster begins.
    turn: usize,
    /// The origin of the queue's time.
    started: Instant,
}

/// The informers have been shut down.
struct Ended;

/// Something that the loop slept for.
enum Woken {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Bound(Outcome),
    Deadline,
}

impl Scheduler {
    pub(crate) fn new(name: String, binder: Binder, reporter: Reporter) -> Self {
        Self {
            name,
            framework: Framework::new(ALL),
            cluster: Cluster::default(),
            queue: Queue::default(),
            binder,
            reporter,
            turn: 0,
            started: Instant::now(),
        }
    }

    /// Runs until the informers end.
    pub(crate) async fn run(mut self, pods: &Informer<Pod>, nodes: &Informer<Node>) {
        let (mut pod_changes, mut node_changes) = (pods.subscribe(), nodes.subscribe());
        loop {
            while let Some(change) = node_changes.try_next() {
                self.node_changed(&change);
            }
            while let Some(change) = pod_changes.try_next() {
                self.pod_changed(&change);
            }
            while let Some(outcome) = self.binder.try_next() {
                self.bound(outcome);
            }
            self.expire(pods);
            self.decide_some();
            if self.has_work() {
                tokio::task::yield_now().await;
            } else if self.sleep(&mut pod_changes, &mut node_changes).await.is_err() {
                return;
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn has_work(&self) -> bool {
        self.binder.has_room() && self.queue.is_ready(self.now())
    }

    async fn sleep(
        &mut self,
        pods: &mut Subscription<Pod>,
        nodes: &mut Subscription<Node>,
    ) -> Result<(), Ended> {
        let queue = self.queue.next_deadline().filter(|_| self.binder.has_room());
        let deadline = [queue, self.cluster.next_deadline()].into_iter().flatten().min();
        let deadline = deadline.map(|due| tokio::time::Instant::from_std(self.started + due));
        let woken = tokio::select! {
            change = pods.next() => Woken::Pod(change.ok_or(Ended)?),
            change = nodes.next() => Woken::Node(change.ok_or(Ended)?),
            outcome = self.binder.next() => Woken::Bound(outcome),
            () = sleep_until(deadline) => Woken::Deadline,
        };
        match woken {
            Woken::Pod(change) => self.pod_changed(&change),
            Woken::Node(change) => self.node_changed(&change),
            Woken::Bound(outcome) => self.bound(outcome),
            Woken::Deadline => {}
        }
        Ok(())
    }

    /// Takes in what became of a node.
    pub(crate) fn node_changed(&mut self, change: &Change<Node>) {
        let node = match change {
            Change::Added(node) | Change::Updated { new: node, .. } => node,
            Change::Deleted(node) => {
                self.cluster.remove_node(node.metadata.name.as_deref().unwrap_or_default());
                return;
            }
        };
        let changed = self.cluster.set_node(node);
        if changed == NodeChange::NONE {
            return;
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let Some(info) = self.cluster.node(name) else { return };
        let event = if changed == NodeChange::ADDED {
            ClusterEvent::NodeAdded(info)
        } else {
            ClusterEvent::NodeUpdated(info, changed)
        };
        let now = self.started.elapsed();
        self.queue.on_event(&self.framework, &event, now);
    }

    /// Takes in what became of a pod.
    pub(crate) fn pod_changed(&mut self, change: &Change<Pod>) {
        match change {
            Change::Deleted(pod) => self.gone(&uid(pod)),
            Change::Added(pod) => self.pod_is(pod),
            Change::Updated { old, new } => {
                // Most changes of a running pod are of its status.
                let placed = node_name(new).is_some() && node_name(old) == node_name(new);
                let same = placed && old.spec == new.spec && is_terminal(old) == is_terminal(new);
                if !same {
                    self.pod_is(new);
                }
            }
        }
    }

    fn pod_is(&mut self, pod: &Arc<Pod>) {
        if is_terminal(pod) {
            return self.gone(&uid(pod));
        }
        let info = Arc::new(PodInfo::new(Arc::clone(pod)));
        if info.node_name().is_some() {
            self.queue.remove(&info.uid);
            let known = self.cluster.set_pod(Arc::clone(&info));
            if known.is_some_and(|known| known.requests != info.requests) {
                self.pod_left(&info);
            }
        } else if self.is_mine(&info) {
            self.wait_for_node(info);
        } else {
            self.queue.remove(&info.uid);
        }
    }

    fn is_mine(&self, info: &PodInfo) -> bool {
        let wanted = info.spec().and_then(|spec| spec.scheduler_name.as_deref());
        wanted.unwrap_or(DEFAULT_NAME) == self.name && info.pod.metadata.deletion_timestamp.is_none()
    }

    fn wait_for_node(&mut self, info: Arc<PodInfo>) {
        // Bound, only the informer does not know yet.
        if self.cluster.has_pod(&info.uid) && !self.queue.contains(&info.uid) {
            return;
        }
        let now = self.now();
        if let Queued::Gated(_) = self.queue.put(&self.framework, Arc::clone(&info), now) {
            self.reporter.gated(&info);
        }
    }

    fn gone(&mut self, uid: &Uid) {
        self.queue.remove(uid);
        if let Some(info) = self.cluster.remove_pod(uid) {
            self.pod_left(&info);
        }
    }

    fn pod_left(&mut self, info: &PodInfo) {
        let now = self.now();
        self.queue.on_event(&self.framework, &ClusterEvent::PodLeft(info), now);
    }

    /// Bindings that were written and never seen: whether they took is not known, so the pods
    /// are looked up and, if they still wait, put back.
    fn expire(&mut self, pods: &Informer<Pod>) {
        let now = self.now();
        for info in self.cluster.expire(now) {
            warn!(pod = info.name(), namespace = info.namespace(), "a binding was never confirmed");
            self.pod_left(&info);
            if let Some(pod) = pods.get(Some(info.namespace()), info.name()) {
                self.pod_is(&pod);
            }
        }
    }

    /// Decides for a batch of pods.
    pub(crate) fn decide_some(&mut self) {
        for _ in 0..BATCH {
            if !self.binder.has_room() {
                return;
            }
            let now = self.now();
            let Some(attempt) = self.queue.pop(&self.framework, now) else { return };
            self.decide(&attempt);
        }
    }

    fn decide(&mut self, attempt: &Attempt) {
        let pod = &attempt.pod;
        let tie = rand::random();
        match schedule(&self.framework, &self.cluster, pod, &mut self.turn, tie) {
            Ok(placement) => self.assign(pod, placement),
            Err(failure) => {
                let why = failure.to_string();
                debug!(pod = pod.name(), attempt = attempt.number, why, "no node");
                let now = self.now();
                self.queue.unschedulable(&pod.uid, failure.rejected_by(), now);
                self.reporter.unschedulable(pod, &why);
            }
        }
    }

    fn assign(&mut self, pod: &Arc<PodInfo>, placement: Placement) {
        let Placement { node, mut state, .. } = placement;
        if let Err(rejection) = self.framework.reserve(&mut state, pod, &node) {
            let now = self.now();
            self.queue.unschedulable(&pod.uid, vec![rejection.plugin], now);
            return self.reporter.unschedulable(pod, &rejection.reasons.join(", "));
        }
        let actions = self.framework.binding(&state, pod, &node);
        self.cluster.assume(Arc::clone(pod), Arc::clone(&node));
        self.binder.start(Arc::clone(pod), node, state, actions);
    }

    /// Takes in what became of a binding.
    pub(crate) fn bound(&mut self, outcome: Outcome) {
        let Outcome { pod, node, mut state, result } = outcome;
        let now = self.now();
        match result {
            Ok(()) => {
                self.queue.remove(&pod.uid);
                self.cluster.binding_written(&pod.uid, now);
                self.framework.post_bind(&pod, &node);
                self.reporter.scheduled(&pod, &node);
            }
            Err(error) => {
                debug!(pod = pod.name(), %node, %error, "binding failed");
                self.framework.unreserve(&mut state, &pod, &node);
                if self.cluster.forget(&pod.uid) {
                    self.pod_left(&pod);
                }
                if matches!(error, BindError::Gone) {
                    return self.queue.remove(&pod.uid);
                }
                if self.queue.contains(&pod.uid) {
                    self.queue.retry(&self.framework, &pod.uid, now);
                    self.reporter.failed(&pod, &format!("binding rejected: {error}"));
                }
            }
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
