//! What is particular to pods: binding to a node, and eviction under disruption budgets.

use std::sync::Arc;

use coracle_api::meta;
use coracle_api::meta::text;
use coracle_api::resource::Subresource;
use coracle_api::selector::LabelSelector;
use coracle_api::status::Status;
use coracle_api::time;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cache::Place;
use crate::registry::create::created_status;
use crate::registry::fields::Managers;
use crate::registry::index::Row;
use crate::registry::key::ObjectKey;
use crate::registry::options::{At, DeleteOptions};
use crate::registry::read::{key_of, target};
use crate::registry::selection::Selection;
use crate::registry::update::{Change, Part, Target, Wanted};
use crate::registry::{Registry, Reply, bodies, failure};
use crate::request::Call;

const BINDING: &str = "io.k8s.api.core.v1.Binding";
const EVICTION: &str = "io.k8s.api.policy.v1.Eviction";
/// When to ask again for an eviction that a budget does not allow now, in seconds.
const EVICTION_RETRY_S: u32 = 10;

/// Puts a pod on a node.
struct Bind {
    binding: Value,
    now: Timestamp,
}

impl Change for Bind {
    fn apply(&self, stored: &Value) -> Result<Wanted, Status> {
        let name = meta::name(stored);
        let refuse = |why: String| Err(Status::conflict("", "pods/binding", name, why));
        let node = stored.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
        let uid = meta::uid(&self.binding);
        if !uid.is_empty() && uid != meta::uid(stored) {
            return refuse(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(stored)
            ));
        }
        if meta::is_deleting(stored) {
            return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        if !node.is_empty() {
            return refuse(format!("pod {name} is already assigned to node {node:?}"));
        }
        if stored
            .pointer("/spec/schedulingGates")
            .and_then(Value::as_array)
            .is_some_and(|gates| !gates.is_empty())
        {
            return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut pod = stored.clone();
        pod["spec"]["nodeName"] = self.binding.pointer("/target/name").cloned().unwrap_or_default();
        for key in ["annotations", "labels"] {
            let given = self
                .binding
                .get("metadata")
                .and_then(|metadata| metadata.get(key))
                .and_then(Value::as_object);
            for (name, value) in given.into_iter().flatten() {
                pod["metadata"][key][name.as_str()] = value.clone();
            }
        }
        set_scheduled(&mut pod, self.now);
        Ok(pod.into())
    }
}

/// Sets condition PodScheduled to True.
fn set_scheduled(pod: &mut Value, now: Timestamp) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": time::seconds(now)});
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    match list.iter_mut().find(|other| text(other, "type") == "PodScheduled") {
        Some(other) => *other = condition,
        None => list.push(condition),
    }
}

/// Counts a disruption against a budget.
struct Disrupt<'a> {
    pod: &'a str,
    now: Timestamp,
}

impl Change for Disrupt<'_> {
    fn apply(&self, stored: &Value) -> Result<Wanted, Status> {
        let status =
            |key: &str| stored.pointer(&format!("/status/{key}")).and_then(Value::as_i64).unwrap_or_default();
        if status("observedGeneration") < meta::generation(stored) {
            let why = format!(
                "The disruption budget {} is still being processed by the server.",
                meta::name(stored)
            );
            return Err(over_budget(why));
        }
        let allowed = status("disruptionsAllowed");
        if allowed <= 0 {
            let why = format!(
                "The disruption budget {} needs {} healthy pods and has {} currently",
                meta::name(stored),
                status("desiredHealthy"),
                status("currentHealthy")
            );
            return Err(over_budget(why));
        }
        let mut budget = stored.clone();
        budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
        budget["status"]["disruptedPods"][self.pod] = json!(time::seconds(self.now));
        Ok(budget.into())
    }
}

fn over_budget(why: String) -> Status {
    Status::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        EVICTION_RETRY_S,
    )
    .with_cause("DisruptionBudget", why, "")
}

impl Registry {
    /// POST of a Binding, to a pod's subresource or to `bindings`.
    pub(super) async fn bind(
        &self,
        row: &Arc<Row>,
        part: &Subresource,
        call: &Call,
    ) -> Result<Reply, Status> {
        let binding = bodies::part(row, part, BINDING, call)?;
        let namespace = call.info.namespace.as_deref().unwrap_or_default();
        let said = meta::name(&binding).to_owned();
        let name = call.info.name.as_deref().unwrap_or(&said);
        if said != name && !said.is_empty() {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or_default();
        let kind = binding.pointer("/target/kind").and_then(Value::as_str).unwrap_or_default();
        if node.is_empty() {
            let error = coracle_api::FieldError::required("target.name", "");
            return Err(Status::invalid("", "Binding", name, vec![error]));
        }
        if !matches!(kind, "" | "Node") {
            let error = coracle_api::FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]);
            return Err(Status::invalid("", "Binding", name, vec![error]));
        }
        let index = self.resources();
        let pods = index.find("", "v1", "pods").ok_or_else(failure::resource_not_found)?;
        let key = key_of(pods, namespace, name)?;
        let target = Target {
            row: pods,
            key: &key,
            part: Part::Server,
            dry_run: call.dry_run,
            demand_version: false,
            managers: Managers::Settled,
        };
        self.change(&target, &Bind { binding, now: Timestamp::now() }).await?;
        created_status()
    }

    /// POST of an Eviction to a pod.
    pub(super) async fn evict(
        &self,
        row: &Arc<Row>,
        part: &Subresource,
        call: &Call,
    ) -> Result<Reply, Status> {
        let eviction = bodies::part(row, part, EVICTION, call)?;
        let key = target(row, call)?;
        let said = meta::name(&eviction);
        if !said.is_empty() && said != key.name() {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let options = match eviction.get("deleteOptions") {
            Some(options) => DeleteOptions::of_body(options)?,
            None => DeleteOptions::default(),
        };
        let namespace = call.info.namespace.as_deref().unwrap_or_default();
        let dry_run = call.dry_run || options.dry_run;
        let pod = self.read(row, &key, At::Newest).await?.and_then(|pod| pod.value());
        let pod = pod.ok_or_else(|| failure::object_not_found(row, key.name()))?;
        if counts_for_budgets(&pod) {
            self.disrupt(&key, &pod, namespace, dry_run).await?;
        }
        self.delete_object(row, &key, namespace, &options, dry_run).await?;
        created_status()
    }

    async fn disrupt(
        &self,
        pod_key: &ObjectKey,
        pod: &Value,
        namespace: &str,
        dry_run: bool,
    ) -> Result<(), Status> {
        let index = self.resources();
        let Some(row) = index.find("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
        let all = Selection::everything(Place::Namespace(namespace.to_owned()));
        let (budgets, _) = self.select(row, &all).await?;
        let mut matching = budgets.iter().filter(|budget| {
            let selector = budget.value().and_then(|value| value.pointer("/spec/selector").cloned());
            selector.and_then(|s| LabelSelector::from_json(&s).ok()).is_some_and(|s| s.matches_object(pod))
        });
        let Some(budget) = matching.next() else { return Ok(()) };
        if matching.next().is_some() {
            return Err(failure::without_reason(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        let key = key_of(row, namespace, budget.name())?;
        let target = Target {
            row,
            key: &key,
            part: Part::Server,
            dry_run,
            demand_version: false,
            managers: Managers::Settled,
        };
        self.change(&target, &Disrupt { pod: pod_key.name(), now: Timestamp::now() }).await.map(|_| ())
    }
}

/// Whether evicting a pod is a disruption: not when it does not run or is going anyway.
fn counts_for_budgets(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    !meta::is_deleting(pod) && !matches!(phase, "Pending" | "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let bind = Bind {
            binding: json!({"metadata": {"name": "p", "annotations": {"by": "me"}}, "target": {"name": "n"}}),
            now: Timestamp::UNIX_EPOCH,
        };
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}});
        let bound = bind.apply(&pod).map(|wanted| wanted.object).unwrap();
        assert_eq!(
            (&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["by"]),
            (&json!("n"), &json!("me"))
        );
        assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
        let again = bind.apply(&bound).err().unwrap();
        assert_eq!(
            again.message,
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
        );
    }

    #[test]
    fn a_budget_is_used_up() {
        let disrupt = Disrupt { pod: "p", now: Timestamp::UNIX_EPOCH };
        let budget = json!({"metadata": {"name": "b"}, "status": {"disruptionsAllowed": 1}});
        let used = disrupt.apply(&budget).map(|wanted| wanted.object).unwrap();
        assert!(used["status"]["disruptedPods"]["p"].is_string());
        assert_eq!(disrupt.apply(&used).err().unwrap().code, 429);
    }
}
