//! Group `admissionregistration.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::cluster;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicy",
            "MutatingAdmissionPolicy",
        )
        .category(&["api-extensions"])
        .columns(&[
            ("Name", "string", "name", 0),
            ("Mutations", "integer", "", 0),
            ("ParamKind", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "mutatingadmissionpolicybindings",
            "mutatingadmissionpolicybinding",
            "MutatingAdmissionPolicyBinding",
        )
        .category(&["api-extensions"])
        .columns(&[
            ("Name", "string", "name", 0),
            ("PolicyName", "string", "", 0),
            ("ParamRef", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "mutatingwebhookconfigurations",
            "mutatingwebhookconfiguration",
            "MutatingWebhookConfiguration",
        )
        .category(&["api-extensions"])
        .columns(&[
            ("Name", "string", "name", 0),
            ("Webhooks", "integer", "", 0),
            ("Age", "string", "", 0),
        ]),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicies",
            "validatingadmissionpolicy",
            "ValidatingAdmissionPolicy",
        )
        .category(&["api-extensions"])
        .status()
        .columns(&[
            ("Name", "string", "name", 0),
            ("Validations", "integer", "", 0),
            ("ParamKind", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicybindings",
            "validatingadmissionpolicybinding",
            "ValidatingAdmissionPolicyBinding",
        )
        .category(&["api-extensions"])
        .columns(&[
            ("Name", "string", "name", 0),
            ("PolicyName", "string", "", 0),
            ("ParamRef", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "validatingwebhookconfigurations",
            "validatingwebhookconfiguration",
            "ValidatingWebhookConfiguration",
        )
        .category(&["api-extensions"])
        .columns(&[
            ("Name", "string", "name", 0),
            ("Webhooks", "integer", "", 0),
            ("Age", "string", "", 0),
        ]),
    ]
}
