//! Group `apiextensions.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::cluster;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "customresourcedefinition",
            "CustomResourceDefinition",
        )
        .short(&["crd", "crds"])
        .category(&["api-extensions"])
        .status()
        .columns(&[("Name", "string", "name", 0), ("Created At", "date", "", 0)]),
    ]
}
