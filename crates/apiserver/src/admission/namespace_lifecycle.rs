//! NamespaceLifecycle: nothing is created in a namespace that is missing or going, and the
//! namespaces that a cluster cannot live without stay.

use async_trait::async_trait;
use coracle_api::status::Status;
use serde_json::Value;

use crate::admission::{Attributes, Operation, Plugin};
use crate::registry::Registry;

/// Namespaces that may not be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// The plugin.
pub(super) struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is(Operation::Delete, "", "namespaces")
            || (attributes.operation == Operation::Create && !attributes.namespace.is_empty())
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        _object: &mut Value,
        registry: &Registry,
    ) -> Result<(), Status> {
        if attributes.operation == Operation::Delete {
            if IMMORTAL.contains(&attributes.name) {
                return Err(attributes.forbidden("this namespace may not be deleted"));
            }
            return Ok(());
        }
        let name = attributes.namespace;
        let Some(namespace) = registry.lookup("", "namespaces", "", name).await? else {
            return Err(Status::not_found("", "namespaces", name));
        };
        let terminating = match namespace.facts.field("status.phase") {
            Some(phase) => phase == "Terminating",
            None => namespace.value().is_some_and(|value| coracle_api::meta::is_deleting(&value)),
        };
        // Reviews of access are answered, not stored; they may speak of what is going.
        if terminating && attributes.row.resource.is_stored() {
            let why =
                format!("unable to create new content in namespace {name} because it is being terminated");
            let cause = format!("namespace {name} is being terminated");
            return Err(attributes.forbidden(why).with_cause(
                "NamespaceTerminating",
                cause,
                "metadata.namespace",
            ));
        }
        Ok(())
    }
}
