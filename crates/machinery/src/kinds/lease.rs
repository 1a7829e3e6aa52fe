//! `coordination.k8s.io/v1 Lease`.

use coracle_api::{FieldErrors, FieldPath};
use serde_json::Value;

use super::{Kind, check};
use crate::view::at;

/// `coordination.k8s.io/v1 Lease`.
pub(super) struct Lease;

impl Kind for Lease {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        check::positive(spec, "leaseDurationSeconds", &path, errors);
        check::not_negative(spec, "leaseTransitions", &path, errors);
    }
}
