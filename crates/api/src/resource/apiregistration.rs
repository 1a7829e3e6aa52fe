//! Group `apiregistration.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::cluster;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster("apiregistration.k8s.io", "v1", "apiservices", "apiservice", "APIService")
            .category(&["api-extensions"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Service", "string", "", 0),
                ("Available", "string", "", 0),
                ("Age", "string", "", 0),
            ]),
    ]
}
