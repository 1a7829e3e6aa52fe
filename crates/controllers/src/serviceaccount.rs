//! ServiceAccount and root CA: watches namespaces, and the two objects that each must have.

use std::sync::Arc;

use coracle_client::driver::{Controller, Driver, SnapshotError};
use coracle_client::{Informer, Informers, ObjectKey};
use coracle_plan::controllers::action::Plan;
use coracle_plan::controllers::serviceaccount::{self, ACCOUNT, ROOT_CA, Snapshot};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};

pub(crate) struct ServiceAccounts {
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    root_cas: Informer<ConfigMap>,
    ca_pem: Arc<str>,
}

pub(crate) fn driver(
    client: &kube::Client,
    informers: &Informers,
    ca_pem: Arc<str>,
) -> Driver<ServiceAccounts> {
    let named = |name: &str| format!("metadata.name={name}");
    let namespaces = informers.get::<Namespace>();
    let accounts = informers.get_filtered::<ServiceAccount>(None, Some(&named(ACCOUNT)));
    let root_cas = informers.get_filtered::<ConfigMap>(None, Some(&named(ROOT_CA)));
    let controller = ServiceAccounts {
        namespaces: namespaces.clone(),
        accounts: accounts.clone(),
        root_cas: root_cas.clone(),
        ca_pem,
    };
    Driver::new(client.clone(), controller)
        .watch(&namespaces, |change, queue| queue.add(ObjectKey::of(&**change.object())))
        .watch(&accounts, |change, queue| {
            let namespace = change.object().metadata.namespace.clone().unwrap_or_default();
            queue.add(ObjectKey::new("", namespace));
        })
        .watch(&root_cas, |change, queue| {
            let namespace = change.object().metadata.namespace.clone().unwrap_or_default();
            queue.add(ObjectKey::new("", namespace));
        })
}

impl Controller for ServiceAccounts {
    type Key = ObjectKey;
    type Snapshot = Snapshot;

    fn name(&self) -> &'static str {
        "serviceaccount-controller"
    }

    async fn snapshot(&self, key: &ObjectKey) -> Result<Option<Snapshot>, SnapshotError> {
        let Some(namespace) = self.namespaces.get_key(key) else { return Ok(None) };
        Ok(Some(Snapshot {
            namespace,
            account: self.accounts.get(Some(&key.name), ACCOUNT),
            root_ca: self.root_cas.get(Some(&key.name), ROOT_CA),
            ca_pem: Arc::clone(&self.ca_pem),
        }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        serviceaccount::plan(snapshot, now)
    }
}
