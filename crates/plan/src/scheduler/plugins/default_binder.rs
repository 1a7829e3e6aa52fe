//! DefaultBinder: a pod is given its node by creating its `binding` subresource.

use crate::scheduler::framework::{Action, Bind, ExtensionPoints, Plugin};
use crate::scheduler::pod_info::PodInfo;

/// The plugin.
pub(super) struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.bind.push(self);
    }
}

impl Bind for DefaultBinder {
    fn bind(&self, pod: &PodInfo, node: &str) -> Option<Action> {
        Some(Action::Bind {
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            uid: pod.pod.metadata.uid.clone(),
            node: node.to_owned(),
        })
    }
}
