//! Group `flowcontrol.apiserver.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::cluster;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "flowschema", "FlowSchema")
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("PriorityLevel", "string", "", 0),
                ("MatchingPrecedence", "string", "", 0),
                ("DistinguisherMethod", "string", "", 0),
                ("Age", "string", "", 0),
                ("MissingPL", "string", "", 0),
            ]),
        cluster(
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "prioritylevelconfigurations",
            "prioritylevelconfiguration",
            "PriorityLevelConfiguration",
        )
        .status()
        .columns(&[
            ("Name", "string", "name", 0),
            ("Type", "string", "", 0),
            ("NominalConcurrencyShares", "string", "", 0),
            ("Queues", "string", "", 0),
            ("HandSize", "string", "", 0),
            ("QueueLengthLimit", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
    ]
}
