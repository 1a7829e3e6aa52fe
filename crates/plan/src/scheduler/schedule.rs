//! One scheduling cycle: from a pod to the node it should run on, or to the reasons why
//! there is none. Looks at each node once, and in a large cluster at only as many as are
//! needed for a good choice.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::cluster::Cluster;
use super::framework::{CycleState, Framework, PreFiltered, PreScored, Rejection, SCORE_MAX};
use super::node_info::NodeInfo;
use super::pod_info::PodInfo;

/// Among so many nodes all that can run the pod are compared.
const COMPARED_NODES_MIN: usize = 100;
/// The least share of a large cluster that is compared, in percent.
const COMPARED_PERCENT_MIN: usize = 5;
/// The share begins at 50% and falls by one for each so many nodes.
const NODES_PER_PERCENT: usize = 125;

/// Where a pod goes.
pub struct Placement {
    /// The node.
    pub node: Arc<str>,
    /// What the plugins remember of the cycle.
    pub state: CycleState,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them could run the pod.
    pub feasible: usize,
}

/// Why a pod goes nowhere. `Display` is what users read in events and conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The cluster has no node.
    NoNodes,
    /// No node can run it.
    Unfit(Unfit),
}

/// No node can run a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// How many nodes there are.
    pub nodes: usize,
    /// What was wrong before any node was looked at.
    pub pre_filter: Option<Rejection>,
    /// What was wrong with each node.
    pub rejections: Vec<(Arc<str>, Rejection)>,
    /// What else there is to say.
    pub post_filter: String,
}

/// Finds a node. `turn` is where the last cycle stopped looking, so that all nodes of a
/// large cluster have theirs; `tie` is a random number that chooses among equals.
pub fn schedule(
    framework: &Framework,
    cluster: &Cluster,
    pod: &PodInfo,
    turn: &mut usize,
    tie: u64,
) -> Result<Placement, Failure> {
    if cluster.is_empty() {
        return Err(Failure::NoNodes);
    }
    let mut cycle = Cycle { framework, cluster, pod, state: CycleState::default(), skipped: 0 };
    let found = match cycle.pre_filter() {
        Ok(only) => cycle.filter(only.as_deref(), turn),
        Err(rejection) => return Err(cycle.failure(Some(rejection), Vec::new())),
    };
    let feasible = found.feasible.len();
    let node = match found.feasible.as_slice() {
        [] => return Err(cycle.failure(None, found.rejections)),
        [only] => Arc::clone(only.name()),
        several => cycle.best(several, tie),
    };
    let evaluated = feasible + found.rejections.len();
    Ok(Placement { node, state: cycle.state, evaluated, feasible })
}

struct Cycle<'a> {
    framework: &'a Framework,
    cluster: &'a Cluster,
    pod: &'a PodInfo,
    state: CycleState,
    /// A bit for each filter plugin that need not be asked.
    skipped: u64,
}

#[derive(Default)]
struct Found<'a> {
    feasible: Vec<&'a NodeInfo>,
    rejections: Vec<(Arc<str>, Rejection)>,
}

impl<'a> Cycle<'a> {
    /// The names of the only nodes that can do, where some plugin knows them.
    fn pre_filter(&mut self) -> Result<Option<Vec<Arc<str>>>, Rejection> {
        let mut only: Option<Vec<Arc<str>>> = None;
        for plugin in &self.framework.points.pre_filter {
            match plugin.pre_filter(&mut self.state, self.pod, self.cluster)? {
                PreFiltered::Any => {}
                PreFiltered::Skip => self.skip(plugin.name()),
                PreFiltered::Only(names) => {
                    only = Some(match only {
                        None => names,
                        Some(known) => known.into_iter().filter(|name| names.contains(name)).collect(),
                    });
                }
            }
        }
        Ok(only)
    }

    fn skip(&mut self, name: &str) {
        let filters = &self.framework.points.filter;
        if let Some(at) = filters.iter().position(|filter| filter.name() == name) {
            self.skipped |= 1_u64.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0);
        }
    }

    fn filter(&self, only: Option<&[Arc<str>]>, turn: &mut usize) -> Found<'a> {
        match only {
            Some(names) => self.filter_named(names),
            None => self.filter_all(turn),
        }
    }

    fn filter_named(&self, names: &[Arc<str>]) -> Found<'a> {
        let mut found = Found::default();
        for node in names.iter().filter_map(|name| self.cluster.node(name)) {
            self.ask(node, &mut found);
        }
        found
    }

    fn filter_all(&self, turn: &mut usize) -> Found<'a> {
        let enough = compared_nodes(self.cluster.len());
        let mut found = Found::default();
        let mut looked_at = 0;
        for node in self.cluster.nodes_from(*turn) {
            self.ask(node, &mut found);
            looked_at += 1;
            if found.feasible.len() >= enough {
                break;
            }
        }
        *turn = turn.wrapping_add(looked_at);
        found
    }

    fn ask(&self, node: &'a NodeInfo, found: &mut Found<'a>) {
        let filters = self.framework.points.filter.iter().enumerate();
        let verdict = filters
            .filter(|(at, _)| *at >= 64 || self.skipped & (1_u64 << *at) == 0)
            .try_for_each(|(_, plugin)| plugin.filter(&self.state, self.pod, node));
        match verdict {
            Ok(()) => found.feasible.push(node),
            Err(rejection) => found.rejections.push((Arc::clone(node.name()), rejection)),
        }
    }

    /// The node with the best score; among equals one with the fewest pods.
    fn best(&mut self, nodes: &[&'a NodeInfo], tie: u64) -> Arc<str> {
        let mut totals = vec![0_i64; nodes.len()];
        let skipped = self.pre_score(nodes);
        for (plugin, weight) in &self.framework.points.score {
            if skipped.contains(&plugin.name()) {
                continue;
            }
            let score = |node: &&NodeInfo| plugin.score(&self.state, self.pod, node, self.cluster);
            let mut scores: Vec<i64> = nodes.iter().map(score).collect();
            plugin.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += weight * score.clamp(0, SCORE_MAX);
            }
        }
        let merit = |at: usize| (totals[at], std::cmp::Reverse(nodes[at].pod_count()));
        let most = (0..nodes.len()).map(merit).max();
        let equals: Vec<usize> = (0..nodes.len()).filter(|at| Some(merit(*at)) == most).collect();
        let chosen = usize::try_from(tie).unwrap_or(usize::MAX) % equals.len().max(1);
        Arc::clone(nodes[equals.get(chosen).copied().unwrap_or(0)].name())
    }

    fn pre_score(&mut self, nodes: &[&NodeInfo]) -> Vec<&'static str> {
        let mut skipped = Vec::new();
        for plugin in &self.framework.points.pre_score {
            if plugin.pre_score(&mut self.state, self.pod, nodes) == PreScored::Skip {
                skipped.push(plugin.name());
            }
        }
        skipped
    }

    fn failure(&self, pre_filter: Option<Rejection>, mut rejections: Vec<(Arc<str>, Rejection)>) -> Failure {
        if pre_filter.is_none() && rejections.len() < self.cluster.len() {
            self.reject_unnamed(&mut rejections);
        }
        let said = self.framework.points.post_filter.iter();
        let said = said.map(|plugin| plugin.post_filter(self.pod, self.cluster, &rejections));
        let post_filter = if pre_filter.is_some() {
            String::new()
        } else {
            said.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
        };
        Failure::Unfit(Unfit { nodes: self.cluster.len(), pre_filter, rejections, post_filter })
    }

    /// The nodes that no plugin was asked about, because others were named.
    fn reject_unnamed(&self, rejections: &mut Vec<(Arc<str>, Rejection)>) {
        let asked: std::collections::HashSet<Arc<str>> =
            rejections.iter().map(|(name, _)| Arc::clone(name)).collect();
        for node in self.cluster.nodes_from(0).filter(|node| !asked.contains(node.name())) {
            let reason = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
            let rejection = Rejection::unresolvable("NodeAffinity", reason);
            rejections.push((Arc::clone(node.name()), rejection));
        }
    }
}

impl Failure {
    /// The plugins that a change must please.
    pub fn rejected_by(&self) -> Vec<&'static str> {
        let Self::Unfit(unfit) = self else { return Vec::new() };
        let of_nodes = unfit.rejections.iter().map(|(_, rejection)| rejection.plugin);
        let mut names: Vec<_> = unfit.pre_filter.iter().map(|one| one.plugin).chain(of_nodes).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNodes => f.write_str("no nodes available to schedule pods"),
            Self::Unfit(unfit) => unfit.fmt(f),
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0/{} nodes are available:", self.nodes)?;
        match &self.pre_filter {
            Some(rejection) => write!(f, " {}.", rejection.reasons.join(", "))?,
            None => {
                let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
                for reason in self.rejections.iter().flat_map(|(_, rejection)| &rejection.reasons) {
                    *reasons.entry(reason).or_default() += 1;
                }
                if !reasons.is_empty() {
                    write!(f, " {}.", histogram(&reasons))?;
                }
            }
        }
        if !self.post_filter.is_empty() {
            write!(f, " {}", self.post_filter)?;
        }
        Ok(())
    }
}

/// `1 Insufficient cpu, 2 Too many pods`, sorted as text.
pub(super) fn histogram(reasons: &BTreeMap<&str, usize>) -> String {
    let mut lines: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    lines.sort_unstable();
    lines.join(", ")
}

/// How many nodes that can run a pod are enough for a good choice.
fn compared_nodes(all: usize) -> usize {
    if all < COMPARED_NODES_MIN {
        return all;
    }
    let percent = 50_usize.saturating_sub(all / NODES_PER_PERCENT).max(COMPARED_PERCENT_MIN);
    (all.saturating_mul(percent) / 100).max(COMPARED_NODES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::plugins::ALL;
    use crate::scheduler::testing::{MakeNode, MakePod};

    fn cluster(nodes: &[MakeNode]) -> Cluster {
        let mut cluster = Cluster::default();
        for node in nodes {
            node.clone().add_to(&mut cluster);
        }
        cluster
    }

    fn run(nodes: &[MakeNode], pod: MakePod) -> Result<String, String> {
        let framework = Framework::new(ALL);
        schedule(&framework, &cluster(nodes), &pod.info(), &mut 0, 0)
            .map(|placement| placement.node.to_string())
            .map_err(|failure| failure.to_string())
    }

    fn small(name: &str) -> MakeNode {
        MakeNode::new(name).capacity(&[("cpu", "1"), ("memory", "1Gi"), ("pods", "10")])
    }

    #[test]
    fn the_emptier_node_wins() {
        let busy = small("a").pod(MakePod::new("x").req(&[("cpu", "500m")]));
        assert_eq!(run(&[busy, small("b")], MakePod::new("p")), Ok("b".to_owned()));
    }

    #[test]
    fn a_node_of_choice_wins_over_an_emptier_one() {
        let busy = small("a").label("disk", "ssd").pod(MakePod::new("x").req(&[("cpu", "500m")]));
        let pod = MakePod::new("p").prefer(1, "disk", "ssd");
        assert_eq!(run(&[busy, small("b")], pod), Ok("a".to_owned()));
    }

    #[test]
    fn reasons_are_counted_as_users_know_them() {
        let nodes = [small("a"), small("b").taint("role", "db", "NoSchedule")];
        let told = run(&nodes, MakePod::new("p").req(&[("cpu", "2")])).unwrap_err();
        assert_eq!(
            told,
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        );
        assert_eq!(run(&[], MakePod::new("p")).unwrap_err(), "no nodes available to schedule pods");
    }

    #[test]
    fn preemption_is_told_apart() {
        let full = small("a").pod(MakePod::new("x").req(&[("cpu", "1")]));
        let pod = MakePod::new("p").req(&[("cpu", "1")]);
        let told = |pod: MakePod| run(std::slice::from_ref(&full), pod).unwrap_err();
        let text = "0/1 nodes are available: 1 Insufficient cpu. preemption: ";
        let victims = "0/1 nodes are available: 1 No preemption victims found for incoming pod.";
        let offered = "0/1 nodes are available: 1 Preemption is not offered by this scheduler.";
        assert_eq!(told(pod.clone()), format!("{text}{victims}"));
        assert_eq!(told(pod.clone().priority(1)), format!("{text}{offered}"));
        let never = told(pod.preemption_policy("Never"));
        assert_eq!(never, format!("{text}not eligible due to preemptionPolicy=Never."));
    }

    #[test]
    fn a_daemon_is_tried_on_its_node_only() {
        let nodes = [small("a"), small("b"), small("c").cordon()];
        assert_eq!(run(&nodes, MakePod::new("p").on_named_nodes(&["b"])), Ok("b".to_owned()));
        let told = run(&nodes, MakePod::new("p").on_named_nodes(&["c"])).unwrap_err();
        assert!(
            told.starts_with(
                "0/3 nodes are available: 1 node(s) were unschedulable, \
                 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
            ),
            "{told}"
        );
    }

    #[test]
    fn rejecting_plugins_are_named_once() {
        let framework = Framework::new(ALL);
        let nodes = [small("a"), small("b"), small("c").cordon()];
        let pod = MakePod::new("p").req(&[("cpu", "2")]).info();
        let failure = schedule(&framework, &cluster(&nodes), &pod, &mut 0, 0).err().unwrap();
        assert_eq!(failure.rejected_by(), ["NodeResourcesFit", "NodeUnschedulable"]);
    }

    #[test]
    fn large_clusters_are_sampled_in_turn() {
        assert_eq!(compared_nodes(50), 50);
        assert_eq!(compared_nodes(1000), 420);
        assert_eq!(compared_nodes(100_000), 5000);
        let nodes: Vec<MakeNode> = (0..300).map(|at| small(&format!("n{at}"))).collect();
        let (framework, cluster) = (Framework::new(ALL), cluster(&nodes));
        let mut turn = 0;
        let pod = MakePod::new("p").info();
        let placement = schedule(&framework, &cluster, &pod, &mut turn, 0).ok().unwrap();
        assert_eq!((placement.evaluated, turn), (144, 144));
    }

    #[test]
    fn equals_share_by_the_tie_and_fewer_pods_win() {
        let framework = Framework::new(ALL);
        let two = cluster(&[small("a"), small("b")]);
        let pod = MakePod::new("p").info();
        let chosen = |tie| schedule(&framework, &two, &pod, &mut 0, tie).ok().unwrap().node;
        assert_ne!(chosen(0), chosen(1));
        let huge = |name| MakeNode::new(name).capacity(&[("cpu", "64"), ("memory", "1Ti"), ("pods", "9")]);
        let light = MakePod::new("x");
        for tie in 0..2 {
            let uneven = cluster(&[huge("a").pod(light.clone()), huge("b")]);
            let placement = schedule(&framework, &uneven, &pod, &mut 0, tie).ok().unwrap();
            assert_eq!(&*placement.node, "b");
        }
    }
}
