//! Priority: a pod's priority and preemption policy come from its PriorityClass, and only one
//! class is the default.

use async_trait::async_trait;
use coracle_api::meta::{name, text};
use coracle_api::status::Status;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin};
use crate::registry::Registry;

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";
/// What a class that does not say otherwise means.
const PREEMPT: &str = "PreemptLowerPriority";

/// The plugin.
pub(super) struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is(Operation::Create, "", "pods")
            || attributes.is(Operation::Create, GROUP, PLURAL)
            || attributes.is(Operation::Update, GROUP, PLURAL)
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        registry: &Registry,
    ) -> Result<(), Status> {
        if attributes.row.is("", "pods") {
            admit_pod(attributes, object, registry).await
        } else {
            admit_class(attributes, object, registry).await
        }
    }
}

async fn admit_class(attributes: &Attributes<'_>, class: &Value, registry: &Registry) -> Result<(), Status> {
    if class.get("globalDefault") != Some(&Value::Bool(true)) {
        return Ok(());
    }
    match default_class(registry).await? {
        Some(other) if name(&other) != attributes.name => Err(attributes.forbidden(format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            name(&other)
        ))),
        _ => Ok(()),
    }
}

async fn default_class(registry: &Registry) -> Result<Option<Value>, Status> {
    let classes = registry.everything(GROUP, PLURAL).await?;
    let defaults = classes
        .iter()
        .filter_map(|class| class.value())
        .filter(|class| class.get("globalDefault") == Some(&Value::Bool(true)));
    Ok(defaults.min_by_key(value_of))
}

fn value_of(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or_default()
}

async fn admit_pod(attributes: &Attributes<'_>, pod: &mut Value, registry: &Registry) -> Result<(), Status> {
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else { return Ok(()) };
    let wanted = text(spec, "priorityClassName").to_owned();
    let class =
        if wanted.is_empty() {
            default_class(registry).await?
        } else {
            let found = registry.lookup(GROUP, PLURAL, "", &wanted).await?.and_then(|class| class.value());
            Some(found.ok_or_else(|| {
                attributes.forbidden(format!("no PriorityClass with name {wanted} was found"))
            })?)
        };
    let (value, policy) = match &class {
        Some(class) => {
            let policy = Some(text(class, "preemptionPolicy")).filter(|policy| !policy.is_empty());
            (value_of(class), policy.unwrap_or(PREEMPT).to_owned())
        }
        None => (0, PREEMPT.to_owned()),
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != value) {
        return Err(attributes.forbidden(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        )));
    }
    let given = text(spec, "preemptionPolicy");
    if !given.is_empty() && given != policy {
        return Err(attributes.forbidden(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        )));
    }
    if wanted.is_empty()
        && let Some(class) = &class
    {
        spec["priorityClassName"] = json!(name(class));
    }
    spec["priority"] = json!(value);
    spec["preemptionPolicy"] = json!(policy);
    Ok(())
}
