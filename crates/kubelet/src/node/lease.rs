//! The node's heartbeat: a Lease in `kube-node-lease`, renewed every ten seconds.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::objects::api_message;

const NAMESPACE: &str = "kube-node-lease";
/// How long the Lease is good for, in seconds.
const DURATION_S: i32 = 40;
/// How often it is renewed: a quarter of that.
const RENEW_PERIOD: Duration = Duration::from_secs(10);
/// The pause after a failed renewal: several fit into the Lease's duration.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Limit of one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Renews the Lease of `node` for ever.
pub(super) async fn keep(client: &Client, node: &str, uid: &str) {
    let api: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    loop {
        let pause = match tokio::time::timeout(REQUEST_LIMIT, renew(&api, node, uid)).await {
            Ok(Ok(())) => RENEW_PERIOD,
            Ok(Err(error)) => {
                let message = api_message(&error);
                tracing::warn!(%message, "the node's lease cannot be renewed");
                RETRY_PERIOD
            }
            Err(_) => {
                tracing::warn!("the node's lease cannot be renewed: no answer");
                RETRY_PERIOD
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew(api: &Api<Lease>, node: &str, uid: &str) -> Result<(), kube::Error> {
    let now = MicroTime(Timestamp::now());
    let patch = json!({ "spec": {
        "holderIdentity": node,
        "leaseDurationSeconds": DURATION_S,
        "renewTime": now,
    }});
    match api.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            api.create(&PostParams::default(), &lease(node, uid, now)).await?;
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

fn lease(node: &str, uid: &str, now: MicroTime) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.to_owned(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(DURATION_S),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}
