//! Job: watches Jobs and pods.

use coracle_client::driver::{Controller, Driver, SnapshotError};
use coracle_client::{Informer, Informers, ObjectKey};
use coracle_plan::controllers::action::Plan;
use coracle_plan::controllers::job::{self, Snapshot};
use coracle_plan::controllers::object;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use crate::owners;

pub(crate) struct Jobs {
    jobs: Informer<Job>,
    pods: Informer<Pod>,
}

pub(crate) fn driver(client: &kube::Client, informers: &Informers) -> Driver<Jobs> {
    let jobs = informers.get::<Job>();
    let pods = informers.get::<Pod>();
    owners::index_by_controller(&pods);
    let controller = Jobs { jobs: jobs.clone(), pods: pods.clone() };
    let known = jobs.clone();
    Driver::new(client.clone(), controller)
        .watch(&jobs, |change, queue| queue.add(ObjectKey::of(&**change.object())))
        .watch(&pods, move |change, queue| {
            owners::add_managers(change, "Job", queue);
            if owners::is_orphan(change) {
                let meta = &change.object().metadata;
                for job in known.list_in(meta.namespace.as_deref().unwrap_or_default()) {
                    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                    if selector.is_some_and(|wants| object::selects(wants, meta.labels.as_ref())) {
                        queue.add(ObjectKey::of(&*job));
                    }
                }
            }
        })
}

impl Controller for Jobs {
    type Key = ObjectKey;
    type Snapshot = Snapshot;

    fn name(&self) -> &'static str {
        "job-controller"
    }

    async fn snapshot(&self, key: &ObjectKey) -> Result<Option<Snapshot>, SnapshotError> {
        let Some(job) = self.jobs.get_key(key) else { return Ok(None) };
        let pods = owners::candidates(&self.pods, object::uid(&job.metadata), &key.namespace);
        Ok(Some(Snapshot { job, pods }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        job::plan(snapshot, now)
    }
}
