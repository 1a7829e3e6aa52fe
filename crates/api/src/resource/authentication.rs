//! Group `authentication.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::cluster;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(
            "authentication.k8s.io",
            "v1",
            "selfsubjectreviews",
            "selfsubjectreview",
            "SelfSubjectReview",
        )
        .verbs(&["create"]),
        cluster("authentication.k8s.io", "v1", "tokenreviews", "tokenreview", "TokenReview")
            .verbs(&["create"]),
    ]
}
