//! RuntimeClass: a pod that names a class gets its overhead and its scheduling constraints,
//! and may not disagree with them.

use async_trait::async_trait;
use coracle_api::meta::text;
use coracle_api::status::Status;
use serde_json::{Map, Value, json};

use crate::admission::{Attributes, Operation, Plugin, items, member};
use crate::registry::Registry;

/// The plugin.
pub(super) struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is(Operation::Create, "", "pods")
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        registry: &Registry,
    ) -> Result<(), Status> {
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return Ok(()) };
        let wanted = text(spec, "runtimeClassName").to_owned();
        let class = if wanted.is_empty() {
            Value::Null
        } else {
            let found = registry.lookup("node.k8s.io", "runtimeclasses", "", &wanted).await?;
            found.and_then(|class| class.value()).ok_or_else(|| {
                attributes.forbidden(format!("pod rejected: RuntimeClass {wanted:?} not found"))
            })?
        };
        apply(spec, &class).map_err(|why| attributes.forbidden(why))
    }
}

/// Gives a pod's spec what its class says; `Null` is no class.
fn apply(spec: &mut Value, class: &Value) -> Result<(), String> {
    let overhead = class.pointer("/overhead/podFixed").filter(|fixed| fixed.is_object());
    match (spec.get("overhead").filter(|given| filled(given)), overhead) {
        (Some(_), None) => {
            return Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                .to_owned());
        }
        (Some(given), Some(fixed)) if given != fixed => {
            return Err(
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned()
            );
        }
        (None, Some(fixed)) => spec["overhead"] = fixed.clone(),
        _ => {}
    }
    let Some(scheduling) = class.get("scheduling") else { return Ok(()) };
    if let Some(wanted) =
        scheduling.get("nodeSelector").and_then(Value::as_object).filter(|all| !all.is_empty())
    {
        merge_selector(spec, wanted)?;
    }
    let new: Vec<Value> = items(scheduling, "tolerations")
        .iter()
        .filter(|toleration| !items(spec, "tolerations").contains(toleration))
        .cloned()
        .collect();
    if !new.is_empty()
        && let Some(list) = member(spec, "tolerations", json!([])).and_then(Value::as_array_mut)
    {
        list.extend(new);
    }
    Ok(())
}

fn filled(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
}

fn merge_selector(spec: &mut Value, wanted: &Map<String, Value>) -> Result<(), String> {
    let Some(selector) = member(spec, "nodeSelector", json!({})).and_then(Value::as_object_mut) else {
        return Ok(());
    };
    for (key, value) in wanted {
        match selector.get(key) {
            Some(given) if given != value => {
                let (given, value) = (given.as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {given}"
                ));
            }
            _ => {
                selector.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_merged_and_may_not_be_contradicted() {
        let class = json!({"overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"wood": "oak"}, "tolerations": [{"key": "salt"}]}});
        let mut spec =
            json!({"nodeSelector": {"deck": "two"}, "tolerations": [{"key": "rust"}, {"key": "salt"}]});
        apply(&mut spec, &class).unwrap();
        assert_eq!(spec["overhead"], json!({"cpu": "250m"}));
        assert_eq!(spec["nodeSelector"], json!({"deck": "two", "wood": "oak"}));
        assert_eq!(items(&spec, "tolerations").len(), 2);
        for refused in [json!({"nodeSelector": {"wood": "pine"}}), json!({"overhead": {"cpu": "1"}})] {
            assert!(apply(&mut refused.clone(), &class).is_err(), "{refused}");
        }
        assert!(apply(&mut json!({"overhead": {"cpu": "1"}}), &Value::Null).is_err());
        assert!(apply(&mut json!({}), &Value::Null).is_ok());
    }
}
