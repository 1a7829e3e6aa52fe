//! JSON Patch (RFC 6902), with the one liberty that Kubernetes takes: `replace` of a key that an
//! object lacks adds it.

use coracle_api::Status;
use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

use super::{parse, undecodable, unprocessable};

/// Operations that a patch may have; more are refused, as by kube-apiserver.
const OPERATIONS_MAX: usize = 10_000;
/// Bytes that `copy` operations may add in all, so that copies of copies stay small.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Applies a JSON Patch.
pub fn json(object: &Value, body: &[u8]) -> Result<Value, Status> {
    let Value::Array(operations) = parse(body)? else {
        return Err(undecodable(
            "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(Status::too_large(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut out = object.clone();
    let mut copied = 0;
    for operation in operations {
        let operation: PatchOperation = serde_json::from_value(operation).map_err(unprocessable)?;
        if let PatchOperation::Copy(copy) = &operation {
            copied += out.pointer(copy.from.as_str()).map_or(0, bytes);
            if copied > COPIED_BYTES_MAX {
                return Err(Status::too_large("the patch copies more than an object may hold"));
            }
        }
        apply(&mut out, operation)?;
    }
    Ok(out)
}

fn apply(object: &mut Value, operation: PatchOperation) -> Result<(), Status> {
    let operation = match operation {
        PatchOperation::Replace(replace) if adds_a_key(object, replace.path.as_str()) => {
            PatchOperation::Add(AddOperation { path: replace.path, value: replace.value })
        }
        other => other,
    };
    json_patch::patch_unsafe(object, &[operation]).map_err(unprocessable)
}

/// Whether `path` names a key that its parent, an object, lacks.
fn adds_a_key(object: &Value, path: &str) -> bool {
    let Some((parent, _)) = path.rsplit_once('/') else { return false };
    object.pointer(path).is_none() && object.pointer(parent).is_some_and(Value::is_object)
}

/// About how many bytes a value is as JSON.
fn bytes(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + 4 + bytes(value)).sum::<usize>() + 2,
        Value::Array(items) => items.iter().map(|item| bytes(item) + 1).sum::<usize>() + 2,
        Value::String(text) => text.len() + 2,
        _ => 8,
    }
}
