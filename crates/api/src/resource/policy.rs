//! Group `policy`: its rows of the resource table.

use super::Resource;
use super::build::namespaced;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("policy", "v1", "poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget")
            .short(&["pdb"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Min Available", "string", "", 0),
                ("Max Unavailable", "string", "", 0),
                ("Allowed Disruptions", "integer", "", 0),
                ("Age", "string", "", 0),
            ]),
    ]
}
