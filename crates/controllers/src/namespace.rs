//! Namespace: watches namespaces, and the end of pods, which is what most wait for. The contents
//! of a namespace that is being deleted are read live: what an informer has not seen yet must
//! not be left behind.

use coracle_client::driver::{Controller, Driver, SnapshotError};
use coracle_client::{Change, Informer, Informers, ObjectKey};
use coracle_plan::controllers::action::{Kind, Plan};
use coracle_plan::controllers::namespace::{self, Snapshot};
use coracle_plan::controllers::object;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::core::PartialObjectMeta;

use crate::discovery::{self, Served};

/// Namespaces emptied at once.
const WORKERS: usize = 4;
/// Kinds of one namespace listed at once.
const LISTS_IN_FLIGHT: usize = 8;
/// Objects listed per kind at a time; those beyond are deleted in the next round.
const PAGE_OBJECTS_MAX: u32 = 1000;

pub(crate) struct Namespaces {
    namespaces: Informer<Namespace>,
    client: kube::Client,
}

pub(crate) fn driver(client: &kube::Client, informers: &Informers) -> Driver<Namespaces> {
    let namespaces = informers.get::<Namespace>();
    let pods = informers.get::<Pod>();
    let controller = Namespaces { namespaces: namespaces.clone(), client: client.clone() };
    let known = namespaces.clone();
    Driver::new(client.clone(), controller)
        .workers(WORKERS)
        .watch(&namespaces, |change, queue| {
            if object::is_deleting(&change.object().metadata) {
                queue.add(ObjectKey::of(&**change.object()));
            }
        })
        .watch(&pods, move |change, queue| {
            let Change::Deleted(pod) = change else { return };
            let Some(name) = pod.metadata.namespace.as_deref() else { return };
            let namespace = known.get(None, name);
            if namespace.is_some_and(|namespace| object::is_deleting(&namespace.metadata)) {
                queue.add(ObjectKey::new("", name));
            }
        })
}

impl Namespaces {
    async fn list(&self, namespace: &str, served: &Served) -> Result<Vec<ObjectMeta>, kube::Error> {
        let api = Api::<PartialObjectMeta<DynamicObject>>::namespaced_with(
            self.client.clone(),
            namespace,
            &served.resource,
        );
        let page = api.list(&ListParams::default().limit(PAGE_OBJECTS_MAX)).await?;
        Ok(page.items.into_iter().map(|object| object.metadata).collect())
    }
}

impl Controller for Namespaces {
    type Key = ObjectKey;
    type Snapshot = Snapshot;

    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    async fn snapshot(&self, key: &ObjectKey) -> Result<Option<Snapshot>, SnapshotError> {
        let found = self.namespaces.get_key(key);
        let Some(namespace) = found.filter(|found| object::is_deleting(&found.metadata)) else {
            return Ok(None);
        };
        let served = discovery::deletable(&self.client)
            .await
            .map_err(|error| SnapshotError::read("the kinds that are served", error))?;
        let namespaced: Vec<Served> = served.into_iter().filter(|one| one.namespaced).collect();
        let name = key.name.as_str();
        let lists = namespaced.into_iter().map(|served| async move {
            let result = self.list(name, &served).await;
            (served, result)
        });
        let lists: Vec<(Served, Result<Vec<ObjectMeta>, kube::Error>)> =
            futures::stream::iter(lists).buffer_unordered(LISTS_IN_FLIGHT).collect().await;
        let mut contents: Vec<(Kind, Vec<ObjectMeta>)> = Vec::new();
        let mut list_failures = Vec::new();
        for (served, result) in lists {
            match result {
                Ok(objects) if objects.is_empty() => {}
                Ok(objects) => contents.push((served.kind(), objects)),
                // Its definition was deleted in this moment.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => list_failures.push(format!("{}: {error}", served.resource.plural)),
            }
        }
        contents.sort_by(|a, b| a.0.cmp(&b.0));
        list_failures.sort();
        Ok(Some(Snapshot { namespace, contents, discovery_failures: Vec::new(), list_failures }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        namespace::plan(snapshot, now)
    }
}
