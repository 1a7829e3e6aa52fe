//! Group `node.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::cluster;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![cluster("node.k8s.io", "v1", "runtimeclasses", "runtimeclass", "RuntimeClass").columns(&[
        ("Name", "string", "name", 0),
        ("Handler", "string", "", 0),
        ("Age", "string", "", 0),
    ])]
}
