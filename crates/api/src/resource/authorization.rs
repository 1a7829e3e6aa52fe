//! Group `authorization.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::{cluster, namespaced};

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(
            "authorization.k8s.io",
            "v1",
            "localsubjectaccessreviews",
            "localsubjectaccessreview",
            "LocalSubjectAccessReview",
        )
        .verbs(&["create"]),
        cluster(
            "authorization.k8s.io",
            "v1",
            "selfsubjectaccessreviews",
            "selfsubjectaccessreview",
            "SelfSubjectAccessReview",
        )
        .verbs(&["create"]),
        cluster(
            "authorization.k8s.io",
            "v1",
            "selfsubjectrulesreviews",
            "selfsubjectrulesreview",
            "SelfSubjectRulesReview",
        )
        .verbs(&["create"]),
        cluster(
            "authorization.k8s.io",
            "v1",
            "subjectaccessreviews",
            "subjectaccessreview",
            "SubjectAccessReview",
        )
        .verbs(&["create"]),
    ]
}
