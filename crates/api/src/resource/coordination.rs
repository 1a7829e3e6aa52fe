//! Group `coordination.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::namespaced;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![namespaced("coordination.k8s.io", "v1", "leases", "lease", "Lease").columns(&[
        ("Name", "string", "name", 0),
        ("Holder", "string", "", 0),
        ("Age", "string", "", 0),
    ])]
}
