//! DefaultTolerationSeconds: pods stay on a node that is not ready or unreachable for five
//! minutes, unless they say otherwise.

use async_trait::async_trait;
use coracle_api::meta::text;
use coracle_api::status::Status;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin, items, member};
use crate::registry::Registry;

/// The taints, in the order in which their tolerations are appended.
const TAINTS: &[&str] = &["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// How long a pod stays, in seconds.
const TOLERATION_S: i64 = 300;

/// The plugin.
pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is(Operation::Create, "", "pods")
    }

    async fn admit(&self, _: &Attributes<'_>, object: &mut Value, _: &Registry) -> Result<(), Status> {
        if let Some(spec) = object.get_mut("spec") {
            tolerate(spec);
        }
        Ok(())
    }
}

fn tolerate(spec: &mut Value) {
    let missing: Vec<&str> = TAINTS
        .iter()
        .copied()
        .filter(|taint| !items(spec, "tolerations").iter().any(|toleration| covers(toleration, taint)))
        .collect();
    if missing.is_empty() {
        return;
    }
    let Some(list) = member(spec, "tolerations", json!([])).and_then(Value::as_array_mut) else { return };
    for key in missing {
        list.push(json!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_S,
        }));
    }
}

fn covers(toleration: &Value, taint: &str) -> bool {
    let (key, effect) = (text(toleration, "key"), text(toleration, "effect"));
    (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_tolerated_is_added() {
        let own = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"});
        let rows = [
            (json!([]), 2),
            (json!([own]), 2),
            (json!([{"operator": "Exists"}]), 1),
            (json!([{"key": TAINTS[1], "operator": "Exists", "effect": "NoSchedule"}]), 3),
        ];
        for (tolerations, want) in rows {
            let mut spec = json!({"tolerations": tolerations});
            tolerate(&mut spec);
            assert_eq!(items(&spec, "tolerations").len(), want, "{spec}");
        }
    }
}
