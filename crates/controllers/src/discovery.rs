//! What kinds the API server serves, custom ones included.

use std::borrow::Cow;

use coracle_plan::controllers::action::Kind;
use kube::api::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};

/// A served kind, at its most stable version.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    pub(crate) watchable: bool,
}

impl Served {
    /// The kind, as actions name it.
    pub(crate) fn kind(&self) -> Kind {
        Kind {
            group: Cow::Owned(self.resource.group.clone()),
            version: Cow::Owned(self.resource.version.clone()),
            kind: Cow::Owned(self.resource.kind.clone()),
            plural: Cow::Owned(self.resource.plural.clone()),
        }
    }
}

/// Every kind whose objects can be listed and deleted.
///
/// # Errors
/// That of the API server; servers without aggregated discovery are asked group by group.
pub(crate) async fn deletable(client: &kube::Client) -> Result<Vec<Served>, kube::Error> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(_) => Discovery::new(client.clone()).run().await?,
    };
    let mut all = Vec::new();
    for group in discovery.groups_alphabetical() {
        for (resource, can) in group.resources_by_stability() {
            if can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE) {
                all.push(Served {
                    resource,
                    namespaced: can.scope == Scope::Namespaced,
                    watchable: can.supports_operation(verbs::WATCH),
                });
            }
        }
    }
    Ok(all)
}
