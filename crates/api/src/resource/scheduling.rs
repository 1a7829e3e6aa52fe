//! Group `scheduling.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::cluster;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster("scheduling.k8s.io", "v1", "priorityclasses", "priorityclass", "PriorityClass")
            .short(&["pc"])
            .columns(&[
                ("Name", "string", "name", 0),
                ("Value", "integer", "", 0),
                ("Global-Default", "boolean", "", 0),
                ("Age", "string", "", 0),
                ("PreemptionPolicy", "string", "", 0),
            ]),
    ]
}
