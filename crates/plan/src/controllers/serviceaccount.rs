//! ServiceAccount and root CA: what every namespace has from its birth: a ServiceAccount named
//! `default`, and a ConfigMap named `kube-root-ca.crt` with the certificate by which pods know
//! the API server.
//!
//! Both are made anew when they are deleted; the certificate is corrected when it was changed.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::action::{Plan, Write};
use super::object;

/// The ServiceAccount that every namespace has.
pub const ACCOUNT: &str = "default";
/// The ConfigMap that every namespace has.
pub const ROOT_CA: &str = "kube-root-ca.crt";
/// The key of the certificate in it.
pub const ROOT_CA_KEY: &str = "ca.crt";
/// Says what the ConfigMap is for, in Kubernetes' words.
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
     guaranteed across distributions of Kubernetes clusters.",
);

/// What a namespace has and lacks.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// Its `default` ServiceAccount.
    pub account: Option<Arc<ServiceAccount>>,
    /// Its root CA ConfigMap.
    pub root_ca: Option<Arc<ConfigMap>>,
    /// The certificate, in PEM; empty if this cluster publishes none.
    pub ca_pem: Arc<str>,
}

/// Decides; see the module.
#[must_use]
pub fn plan(snapshot: &Snapshot, _now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let namespace = &snapshot.namespace.metadata;
    if object::is_deleting(namespace) {
        return plan;
    }
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.name.clone(),
        ..ObjectMeta::default()
    };
    if snapshot.account.is_none() {
        let account = ServiceAccount { metadata: named(ACCOUNT), ..ServiceAccount::default() };
        plan.write(Write::create(&account));
    }
    if snapshot.ca_pem.is_empty() {
        return plan;
    }
    let data = Some([(ROOT_CA_KEY.to_owned(), snapshot.ca_pem.to_string())].into());
    match snapshot.root_ca.as_deref() {
        None => {
            let mut metadata = named(ROOT_CA);
            let (key, text) = DESCRIPTION;
            metadata.annotations = Some([(key.to_owned(), text.to_owned())].into());
            plan.write(Write::create(&ConfigMap { metadata, data, ..ConfigMap::default() }));
        }
        Some(known) if known.data != data => {
            plan.write(Write::update(&ConfigMap { data, ..known.clone() }));
        }
        Some(_) => {}
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{at, meta};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn snapshot() -> Snapshot {
        let mut namespace = Namespace { metadata: meta("team"), ..Namespace::default() };
        namespace.metadata.namespace = None;
        Snapshot { namespace: Arc::new(namespace), ca_pem: "PEM".into(), ..Snapshot::default() }
    }

    fn verbs(plan: &Plan) -> Vec<String> {
        plan.writes().map(|write| format!("{} {}", write.verb(), write.name())).collect()
    }

    #[test]
    fn a_new_namespace_gets_both_and_a_full_one_nothing() {
        let mut facts = snapshot();
        let first = plan(&facts, at(0));
        assert_eq!(verbs(&first), ["create default", "create kube-root-ca.crt"]);
        let Some(Write::Create { object, .. }) = first.writes().last() else { panic!() };
        facts.root_ca = Some(Arc::new(serde_json::from_value(object.clone()).unwrap()));
        facts.account = Some(Arc::default());
        assert!(plan(&facts, at(0)).actions.is_empty());
        facts.ca_pem = "NEW".into();
        assert_eq!(verbs(&plan(&facts, at(0))), ["update kube-root-ca.crt"]);
    }

    #[test]
    fn a_terminating_namespace_gets_nothing() {
        let mut facts = snapshot();
        Arc::make_mut(&mut facts.namespace).metadata.deletion_timestamp = Some(Time(at(1)));
        assert!(plan(&facts, at(2)).actions.is_empty());
    }
}
