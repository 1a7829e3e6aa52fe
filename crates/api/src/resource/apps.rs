//! Group `apps`: its rows of the resource table.

use super::Resource;
use super::build::namespaced;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("apps", "v1", "controllerrevisions", "controllerrevision", "ControllerRevision").columns(
            &[
                ("Name", "string", "name", 0),
                ("Controller", "string", "", 0),
                ("Revision", "string", "", 0),
                ("Age", "string", "", 0),
            ],
        ),
        namespaced("apps", "v1", "daemonsets", "daemonset", "DaemonSet")
            .short(&["ds"])
            .category(&["all"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Desired", "integer", "", 0),
                ("Current", "integer", "", 0),
                ("Ready", "integer", "", 0),
                ("Up-to-date", "integer", "", 0),
                ("Available", "integer", "", 0),
                ("Node Selector", "string", "", 0),
                ("Age", "string", "", 0),
                ("Containers", "string", "", 1),
                ("Images", "string", "", 1),
                ("Selector", "string", "", 1),
            ]),
        namespaced("apps", "v1", "deployments", "deployment", "Deployment")
            .short(&["deploy"])
            .category(&["all"])
            .scale()
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Ready", "string", "", 0),
                ("Up-to-date", "string", "", 0),
                ("Available", "string", "", 0),
                ("Age", "string", "", 0),
                ("Containers", "string", "", 1),
                ("Images", "string", "", 1),
                ("Selector", "string", "", 1),
            ]),
        namespaced("apps", "v1", "replicasets", "replicaset", "ReplicaSet")
            .short(&["rs"])
            .category(&["all"])
            .scale()
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Desired", "integer", "", 0),
                ("Current", "integer", "", 0),
                ("Ready", "integer", "", 0),
                ("Age", "string", "", 0),
                ("Containers", "string", "", 1),
                ("Images", "string", "", 1),
                ("Selector", "string", "", 1),
            ]),
        namespaced("apps", "v1", "statefulsets", "statefulset", "StatefulSet")
            .short(&["sts"])
            .category(&["all"])
            .scale()
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Ready", "string", "", 0),
                ("Age", "string", "", 0),
                ("Containers", "string", "", 1),
                ("Images", "string", "", 1),
            ]),
    ]
}
