//! Group `discovery.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::namespaced;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![namespaced("discovery.k8s.io", "v1", "endpointslices", "endpointslice", "EndpointSlice").columns(&[
        ("Name", "string", "name", 0),
        ("AddressType", "string", "", 0),
        ("Ports", "string", "", 0),
        ("Endpoints", "string", "", 0),
        ("Age", "string", "", 0),
    ])]
}
