//! TaintNodesByCondition: a new node takes no pods until the node lifecycle controller has
//! seen it Ready and removes the taint.

use async_trait::async_trait;
use coracle_api::meta::text;
use coracle_api::status::Status;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin, items, member};
use crate::registry::Registry;

/// Key of the taint.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is(Operation::Create, "", "nodes")
    }

    async fn admit(&self, _: &Attributes<'_>, object: &mut Value, _: &Registry) -> Result<(), Status> {
        let Some(spec) = member(object, "spec", json!({})) else { return Ok(()) };
        let tainted = items(spec, "taints")
            .iter()
            .any(|taint| text(taint, "key") == NOT_READY && text(taint, "effect") == "NoSchedule");
        if tainted {
            return Ok(());
        }
        if let Some(taints) = member(spec, "taints", json!([])).and_then(Value::as_array_mut) {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
