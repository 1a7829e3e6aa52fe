//! Group `resource.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::{cluster, namespaced};

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster("resource.k8s.io", "v1", "deviceclasses", "deviceclass", "DeviceClass")
            .columns(&[("Name", "string", "name", 0), ("Age", "string", "", 0)]),
        namespaced("resource.k8s.io", "v1", "resourceclaims", "resourceclaim", "ResourceClaim")
            .status()
            .columns(&[("Name", "string", "name", 0), ("State", "string", "", 0), ("Age", "string", "", 0)]),
        namespaced(
            "resource.k8s.io",
            "v1",
            "resourceclaimtemplates",
            "resourceclaimtemplate",
            "ResourceClaimTemplate",
        )
        .columns(&[("Name", "string", "name", 0), ("Age", "string", "", 0)]),
        cluster("resource.k8s.io", "v1", "resourceslices", "resourceslice", "ResourceSlice").columns(&[
            ("Name", "string", "name", 0),
            ("Node", "string", "", 0),
            ("Driver", "string", "", 0),
            ("Pool", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
    ]
}
