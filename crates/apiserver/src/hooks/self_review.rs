//! SelfSubjectReview: who am I (KEP-3325).

use coracle_api::time;
use coracle_api::user::UserInfo;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The review of the caller.
pub(super) fn answer(user: &UserInfo) -> Value {
    json!({
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": { "creationTimestamp": time::seconds(Timestamp::now()) },
        "status": { "userInfo": user },
    })
}
