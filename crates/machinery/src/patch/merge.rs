//! JSON merge patch (RFC 7396): objects merge, `null` removes, all else replaces.

use coracle_api::Status;
use serde_json::Value;

use super::undecodable;

/// Applies a merge patch.
pub fn merge(object: &Value, patch: &Value) -> Result<Value, Status> {
    if !patch.is_object() {
        return Err(undecodable("a merge patch must be a JSON object"));
    }
    let mut out = object.clone();
    json_patch::merge(&mut out, patch);
    Ok(out)
}
