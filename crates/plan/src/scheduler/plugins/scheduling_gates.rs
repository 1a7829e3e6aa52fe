//! SchedulingGates: a pod with gates is not tried until the last of them is removed.

use crate::scheduler::framework::{ExtensionPoints, Plugin, PreEnqueue, Rejection};
use crate::scheduler::pod_info::PodInfo;

const NAME: &str = "SchedulingGates";

/// The plugin.
pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.pre_enqueue.push(self);
    }
}

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        let gates = pod.spec().and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
        if gates.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
        Err(Rejection::unresolvable(NAME, format!("waiting for scheduling gates: [{}]", names.join(" "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::MakePod;

    #[test]
    fn gates_hold_a_pod_back() {
        assert!(SchedulingGates.pre_enqueue(&MakePod::new("p").info()).is_ok());
        let gated = MakePod::new("p").gate("a").gate("b").info();
        let reasons = SchedulingGates.pre_enqueue(&gated).unwrap_err().reasons;
        assert_eq!(reasons, ["waiting for scheduling gates: [a b]"]);
    }
}
