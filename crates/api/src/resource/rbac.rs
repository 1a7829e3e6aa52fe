//! Group `rbac.authorization.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::{cluster, namespaced};

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(
            "rbac.authorization.k8s.io",
            "v1",
            "clusterrolebindings",
            "clusterrolebinding",
            "ClusterRoleBinding",
        )
        .columns(&[
            ("Name", "string", "name", 0),
            ("Role", "string", "", 0),
            ("Age", "string", "", 0),
            ("Users", "string", "", 1),
            ("Groups", "string", "", 1),
            ("ServiceAccounts", "string", "", 1),
        ]),
        cluster("rbac.authorization.k8s.io", "v1", "clusterroles", "clusterrole", "ClusterRole")
            .columns(&[("Name", "string", "name", 0), ("Created At", "date", "", 0)]),
        namespaced("rbac.authorization.k8s.io", "v1", "rolebindings", "rolebinding", "RoleBinding").columns(
            &[
                ("Name", "string", "name", 0),
                ("Role", "string", "", 0),
                ("Age", "string", "", 0),
                ("Users", "string", "", 1),
                ("Groups", "string", "", 1),
                ("ServiceAccounts", "string", "", 1),
            ],
        ),
        namespaced("rbac.authorization.k8s.io", "v1", "roles", "role", "Role")
            .columns(&[("Name", "string", "name", 0), ("Created At", "date", "", 0)]),
    ]
}
