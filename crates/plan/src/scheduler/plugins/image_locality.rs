//! ImageLocality: nodes that already hold the pod's images are liked better, the more so the
//! larger the images, and the less so the fewer nodes hold them, lest all pods go there.

use k8s_openapi::api::core::v1::Container;

use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{CycleState, ExtensionPoints, Plugin, SCORE_MAX, Score};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::pod_info::PodInfo;

const WEIGHT: i64 = 1;
/// Images below this size, together, count for nothing.
const BYTES_MIN: i64 = 23 * 1024 * 1024;
/// Images of this size, per container, count fully.
const BYTES_MAX_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

/// The plugin.
pub(super) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.score.push((self, WEIGHT));
    }
}

impl Score for ImageLocality {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo, cluster: &Cluster) -> i64 {
        if node.images().is_empty() {
            return 0;
        }
        let Some(spec) = pod.spec() else { return 0 };
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let bytes: i64 = containers().map(|container| spread_bytes(container, node, cluster)).sum();
        let count = i64::try_from(containers().count()).unwrap_or(1).max(1);
        let most = BYTES_MAX_PER_CONTAINER.saturating_mul(count);
        SCORE_MAX * (bytes.clamp(BYTES_MIN, most) - BYTES_MIN) / (most - BYTES_MIN)
    }
}

/// The image's size, in proportion to how many of the nodes hold it.
fn spread_bytes(container: &Container, node: &NodeInfo, cluster: &Cluster) -> i64 {
    let Some(image) = container.image.as_deref() else { return 0 };
    let name = with_tag(image);
    let Some(size) = node.images().get(&*name) else { return 0 };
    let nodes = cluster.len().max(1);
    let spread = i128::from(*size) * cluster.nodes_with_image(&name) as i128 / nodes as i128;
    i64::try_from(spread).unwrap_or(i64::MAX / 2).min(BYTES_MAX_PER_CONTAINER)
}

/// An image without tag or digest is its `latest`.
fn with_tag(image: &str) -> std::borrow::Cow<'_, str> {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.into() } else { format!("{image}:latest").into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    const MEGABYTES: i64 = 1024 * 1024;

    #[test]
    fn images_count_by_size_and_spread() {
        let mut cluster = Cluster::default();
        cluster.set_node(&MakeNode::new("a").image("big:latest", 500 * MEGABYTES).arc());
        cluster.set_node(&MakeNode::new("b").image("small:1", 10 * MEGABYTES).arc());
        let score = |image: &str, node: &str| {
            let pod = MakePod::new("p").image(image).info();
            let node = cluster.node(node).unwrap();
            ImageLocality.score(&CycleState::default(), &pod, node, &cluster)
        };
        assert_eq!(score("big", "a"), 100 * (250 - 23) / (1000 - 23));
        assert_eq!(score("big", "b"), 0);
        assert_eq!(score("small:1", "b"), 0, "too small to matter");
    }

    #[test]
    fn names_get_their_default_tag() {
        assert_eq!(with_tag("host:5000/app"), "host:5000/app:latest");
        assert_eq!(with_tag("app:1"), "app:1");
        assert_eq!(with_tag("app@sha256:00"), "app@sha256:00");
    }
}
