//! Admission: what the cluster adds to an object, or has against it, before it is stored.
//!
//! [`Admission::standard`] is the whole list of plugins, in the order in which they run. A
//! plugin looks at one write and changes the object or refuses it; it may read through the
//! registry and never writes. It must be cheap to ask [`Plugin::handles`]: every write does.

mod default_toleration_seconds;
mod namespace_lifecycle;
mod priority;
mod runtime_class;
mod service_account;
mod taint_nodes_by_condition;

use async_trait::async_trait;
use coracle_api::status::Status;
use serde_json::Value;

use crate::registry::{Registry, Row};

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Makes an object.
    Create,
    /// Changes one.
    Update,
    /// Deletes one.
    Delete,
}

/// A write, as plugins see it.
pub(crate) struct Attributes<'a> {
    /// What it does.
    pub(crate) operation: Operation,
    /// The resource.
    pub(crate) row: &'a Row,
    /// The subresource; empty for the object itself.
    pub(crate) subresource: &'a str,
    /// The namespace; empty for cluster-scoped kinds.
    pub(crate) namespace: &'a str,
    /// The name; empty when it is yet to be generated.
    pub(crate) name: &'a str,
}

impl Attributes<'_> {
    /// Whether it is this operation on objects of this resource, not on a subresource.
    pub(crate) fn is(&self, operation: Operation, group: &str, plural: &str) -> bool {
        self.operation == operation && self.subresource.is_empty() && self.row.is(group, plural)
    }

    /// 403 about the object.
    pub(crate) fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.row.resource.group, &self.row.resource.plural, self.name, why)
    }
}

/// One concern of admission.
#[async_trait]
pub(crate) trait Plugin: Send + Sync {
    /// Whether the plugin has anything to say about a write.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;

    /// Changes or refuses the object; for deletions `object` is what is stored.
    ///
    /// # Errors
    /// The refusal, or a failure to read what the decision needs.
    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        registry: &Registry,
    ) -> Result<(), Status>;
}

/// The plugins, in order.
pub(crate) struct Admission(Vec<Box<dyn Plugin>>);

impl Admission {
    /// Those that every cluster has.
    pub(crate) fn standard() -> Self {
        Self(vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(service_account::ServiceAccount),
            Box::new(taint_nodes_by_condition::TaintNodesByCondition),
            Box::new(priority::Priority),
            Box::new(default_toleration_seconds::DefaultTolerationSeconds),
            Box::new(runtime_class::RuntimeClass),
        ])
    }

    /// Runs the plugins over a write; the first refusal ends it.
    ///
    /// # Errors
    /// Of the plugins.
    pub(crate) async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        registry: &Registry,
    ) -> Result<(), Status> {
        for plugin in self.0.iter().filter(|plugin| plugin.handles(attributes)) {
            plugin.admit(attributes, object, registry).await?;
        }
        Ok(())
    }
}

/// The member `key` of an object, made as `empty` if it is missing or null.
pub(crate) fn member<'a>(object: &'a mut Value, key: &str, empty: Value) -> Option<&'a mut Value> {
    let slot = object.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = empty;
    }
    Some(slot)
}

/// The items of the list `key` of an object; nothing when it is missing.
pub(crate) fn items<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
