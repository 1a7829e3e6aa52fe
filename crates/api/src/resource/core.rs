//! The core group: its rows of the resource table.

use super::Resource;
use super::build::{cluster, namespaced};

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("", "v1", "bindings", "binding", "Binding").verbs(&["create"]),
        cluster("", "v1", "componentstatuses", "componentstatus", "ComponentStatus")
            .short(&["cs"])
            .verbs(&["get", "list"])
            .columns(&[
                ("Name", "string", "name", 0),
                ("Status", "string", "", 0),
                ("Message", "string", "", 0),
                ("Error", "string", "", 0),
            ]),
        namespaced("", "v1", "configmaps", "configmap", "ConfigMap").short(&["cm"]).columns(&[
            ("Name", "string", "name", 0),
            ("Data", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        namespaced("", "v1", "endpoints", "endpoints", "Endpoints").short(&["ep"]).columns(&[
            ("Name", "string", "name", 0),
            ("Endpoints", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        namespaced("", "v1", "events", "event", "Event").short(&["ev"]).columns(&[
            ("Last Seen", "string", "", 0),
            ("Type", "string", "", 0),
            ("Reason", "string", "", 0),
            ("Object", "string", "", 0),
            ("Subobject", "string", "", 1),
            ("Source", "string", "", 1),
            ("Message", "string", "", 0),
            ("First Seen", "string", "", 1),
            ("Count", "string", "", 1),
            ("Name", "string", "name", 1),
        ]),
        namespaced("", "v1", "limitranges", "limitrange", "LimitRange")
            .short(&["limits"])
            .columns(&[("Name", "string", "name", 0), ("Created At", "date", "", 0)]),
        cluster("", "v1", "namespaces", "namespace", "Namespace")
            .short(&["ns"])
            .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
            .sub("finalize", ("", "", "Namespace"), &["update"])
            .status()
            .columns(&[("Name", "string", "name", 0), ("Status", "string", "", 0), ("Age", "string", "", 0)]),
        cluster("", "v1", "nodes", "node", "Node")
            .short(&["no"])
            .sub("proxy", ("", "", "NodeProxyOptions"), &["create", "delete", "get", "patch", "update"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Status", "string", "", 0),
                ("Roles", "string", "", 0),
                ("Age", "string", "", 0),
                ("Version", "string", "", 0),
                ("Internal-IP", "string", "", 1),
                ("External-IP", "string", "", 1),
                ("OS-Image", "string", "", 1),
                ("Kernel-Version", "string", "", 1),
                ("Container-Runtime", "string", "", 1),
            ]),
        namespaced("", "v1", "persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim")
            .short(&["pvc"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Status", "string", "", 0),
                ("Volume", "string", "", 0),
                ("Capacity", "string", "", 0),
                ("Access Modes", "string", "", 0),
                ("StorageClass", "string", "", 0),
                ("VolumeAttributesClass", "string", "", 0),
                ("Age", "string", "", 0),
                ("VolumeMode", "string", "", 1),
            ]),
        cluster("", "v1", "persistentvolumes", "persistentvolume", "PersistentVolume")
            .short(&["pv"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Capacity", "string", "", 0),
                ("Access Modes", "string", "", 0),
                ("Reclaim Policy", "string", "", 0),
                ("Status", "string", "", 0),
                ("Claim", "string", "", 0),
                ("StorageClass", "string", "", 0),
                ("VolumeAttributesClass", "string", "", 0),
                ("Reason", "string", "", 0),
                ("Age", "string", "", 0),
                ("VolumeMode", "string", "", 1),
            ]),
        namespaced("", "v1", "pods", "pod", "Pod")
            .short(&["po"])
            .category(&["all"])
            .sub("attach", ("", "", "PodAttachOptions"), &["create", "get"])
            .sub("binding", ("", "", "Binding"), &["create"])
            .sub("ephemeralcontainers", ("", "", "Pod"), &["get", "patch", "update"])
            .sub("eviction", ("policy", "v1", "Eviction"), &["create"])
            .sub("exec", ("", "", "PodExecOptions"), &["create", "get"])
            .sub("log", ("", "", "Pod"), &["get"])
            .sub("portforward", ("", "", "PodPortForwardOptions"), &["create", "get"])
            .sub("proxy", ("", "", "PodProxyOptions"), &["create", "delete", "get", "patch", "update"])
            .sub("resize", ("", "", "Pod"), &["get", "patch", "update"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Ready", "string", "", 0),
                ("Status", "string", "", 0),
                ("Restarts", "string", "", 0),
                ("Age", "string", "", 0),
                ("IP", "string", "", 1),
                ("Node", "string", "", 1),
                ("Nominated Node", "string", "", 1),
                ("Readiness Gates", "string", "", 1),
            ]),
        namespaced("", "v1", "podtemplates", "podtemplate", "PodTemplate").columns(&[
            ("Name", "string", "name", 0),
            ("Containers", "string", "", 0),
            ("Images", "string", "", 0),
            ("Pod Labels", "string", "", 0),
        ]),
        namespaced("", "v1", "replicationcontrollers", "replicationcontroller", "ReplicationController")
            .short(&["rc"])
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
        namespaced("", "v1", "resourcequotas", "resourcequota", "ResourceQuota")
            .short(&["quota"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Request", "string", "", 0),
                ("Limit", "string", "", 0),
                ("Age", "string", "", 0),
            ]),
        namespaced("", "v1", "secrets", "secret", "Secret").columns(&[
            ("Name", "string", "name", 0),
            ("Type", "string", "", 0),
            ("Data", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        namespaced("", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount")
            .short(&["sa"])
            .sub("token", ("authentication.k8s.io", "v1", "TokenRequest"), &["create"])
            .columns(&[("Name", "string", "name", 0), ("Age", "string", "", 0)]),
        namespaced("", "v1", "services", "service", "Service")
            .short(&["svc"])
            .category(&["all"])
            .sub("proxy", ("", "", "ServiceProxyOptions"), &["create", "delete", "get", "patch", "update"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Type", "string", "", 0),
                ("Cluster-IP", "string", "", 0),
                ("External-IP", "string", "", 0),
                ("Port(s)", "string", "", 0),
                ("Age", "string", "", 0),
                ("Selector", "string", "", 1),
            ]),
    ]
}
