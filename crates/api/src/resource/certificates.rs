//! Group `certificates.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::cluster;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(
            "certificates.k8s.io",
            "v1",
            "certificatesigningrequests",
            "certificatesigningrequest",
            "CertificateSigningRequest",
        )
        .short(&["csr"])
        .sub("approval", ("", "", "CertificateSigningRequest"), &["get", "patch", "update"])
        .status()
        .columns(&[
            ("Name", "string", "name", 0),
            ("Age", "string", "", 0),
            ("SignerName", "string", "", 0),
            ("Requestor", "string", "", 0),
            ("RequestedDuration", "string", "", 0),
            ("Condition", "string", "", 0),
        ]),
    ]
}
