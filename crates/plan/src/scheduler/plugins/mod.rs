//! The rules of the scheduler, one file each, and the list of those in use.

mod default_binder;
mod default_preemption;
mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod priority_sort;
mod scheduling_gates;
mod taint_toleration;

use super::framework::{Plugin, SCORE_MAX};

/// The plugins in use, in the order in which they are asked at each of their points: cheap
/// and telling ones first.
pub const ALL: &[&dyn Plugin] = &[
    &scheduling_gates::SchedulingGates,
    &priority_sort::PrioritySort,
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinity,
    &node_ports::NodePorts,
    &node_resources_fit::NodeResourcesFit,
    &default_preemption::DefaultPreemption,
    &image_locality::ImageLocality,
    &default_binder::DefaultBinder,
];

/// Stretches scores so that the best is [`SCORE_MAX`]; `reverse` makes the lowest the best.
fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let share = if most == 0 { 0 } else { *score * SCORE_MAX / most };
        *score = if reverse { SCORE_MAX - share } else { share };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|plugin| plugin.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn normalizing_stretches_to_the_best() {
        let cases: [(&[i64], bool, &[i64]); 4] = [
            (&[1, 2, 4], false, &[25, 50, 100]),
            (&[1, 2, 4], true, &[75, 50, 0]),
            (&[0, 0], false, &[0, 0]),
            (&[0, 0], true, &[100, 100]),
        ];
        for (scores, reverse, expected) in cases {
            let mut scores = scores.to_vec();
            normalize(&mut scores, reverse);
            assert_eq!(scores, expected);
        }
    }
}
