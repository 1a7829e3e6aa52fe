//! Group `autoscaling`: its rows of the resource table.

use super::Resource;
use super::build::namespaced;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(
            "autoscaling",
            "v2",
            "horizontalpodautoscalers",
            "horizontalpodautoscaler",
            "HorizontalPodAutoscaler",
        )
        .short(&["hpa"])
        .category(&["all"])
        .status()
        .columns(&[
            ("Name", "string", "name", 0),
            ("Reference", "string", "", 0),
            ("Targets", "string", "", 0),
            ("MinPods", "string", "", 0),
            ("MaxPods", "string", "", 0),
            ("Replicas", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        namespaced(
            "autoscaling",
            "v1",
            "horizontalpodautoscalers",
            "horizontalpodautoscaler",
            "HorizontalPodAutoscaler",
        )
        .short(&["hpa"])
        .category(&["all"])
        .status()
        .columns(&[
            ("Name", "string", "name", 0),
            ("Reference", "string", "", 0),
            ("Targets", "string", "", 0),
            ("MinPods", "string", "", 0),
            ("MaxPods", "string", "", 0),
            ("Replicas", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
    ]
}
