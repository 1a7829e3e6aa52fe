//! `certificates.k8s.io/v1 CertificateSigningRequest`. Who asked is filled in by the API server.

use coracle_api::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;

use super::{Kind, check};
use crate::view::{at, int, keep, list, text};

/// The shortest lifetime that may be asked for.
const LIFETIME_MIN_S: i64 = 600;

/// `certificates.k8s.io/v1 CertificateSigningRequest`.
pub(super) struct CertificateSigningRequest;

impl Kind for CertificateSigningRequest {
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        check::required(spec, "request", &path, errors);
        let signer = check::required(spec, "signerName", &path, errors);
        if !signer.is_empty() && !signer.contains('/') {
            let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.push(FieldError::invalid(path.child("signerName"), signer, why));
        }
        let usages = list(spec, "usages");
        if usages.is_empty() {
            errors.push(FieldError::required(path.child("usages"), ""));
        }
        for (i, usage) in usages.iter().enumerate() {
            if usages[..i].contains(usage) {
                errors.push(FieldError::duplicate(path.child("usages").index(i), usage.clone()));
            }
        }
        if let Some(seconds) = int(spec, "expirationSeconds").filter(|s| *s < LIFETIME_MIN_S) {
            let why = format!("may not specify a duration less than {LIFETIME_MIN_S} seconds (10 minutes)");
            errors.push(FieldError::invalid(path.child("expirationSeconds"), seconds, why));
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn name_errors(&self, _name: &str) -> Vec<String> {
        Vec::new()
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", text(object, "spec.signerName").to_owned())]
    }
}
