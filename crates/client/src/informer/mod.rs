//! Shared informers: one watched store per kind (and selector) and process.
//!
//! [`Informers`] hands out [`Informer`]s and starts each on first use. An informer owns a store of
//! `Arc`ed objects without their managedFields, fed by one watch that begins with a streamed list
//! and is resumed after errors with a growing pause. Readers ([`Informer::get`],
//! [`Informer::list_in`], [`Informer::by_index`]) never wait; followers use a [`Subscription`].
//!
//! It must never write to the API, and never make a follower's slowness another's problem.

mod store;
mod subscription;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::ApiResource;
use kube::runtime::watcher;
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use store::Store;
pub use subscription::{Change, Subscription};

/// The pause after the first failure of a watch; it doubles with each failure in a row.
const WATCH_RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two tries of a failing watch (client-go's is the same).
const WATCH_RETRY_MAX: Duration = Duration::from_secs(30);

/// What an informer can hold: any object that kube knows how to watch.
pub trait Object: Resource + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static {}

impl<T> Object for T where T: Resource + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static {}

/// Namespace and name of an object; the namespace is empty for cluster-scoped ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace, or the empty string.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of `object`.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        ObjectKey {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// The key with these parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }

    /// The namespace, unless the object is cluster-scoped.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Which objects of a kind an informer holds: its type and its selectors.
type Selection = (TypeId, Option<String>, Option<String>);

struct Shared {
    client: kube::Client,
    shutdown: CancellationToken,
    started: Mutex<HashMap<Selection, Box<dyn Any + Send + Sync>>>,
}

/// All informers of a process (or of one identity in it). Cheap to clone.
#[derive(Clone)]
pub struct Informers {
    shared: Arc<Shared>,
}

impl Informers {
    /// No informer runs yet; those that are started end with `shutdown`.
    #[must_use]
    pub fn new(client: kube::Client, shutdown: CancellationToken) -> Self {
        let shared = Shared { client, shutdown, started: Mutex::default() };
        Informers { shared: Arc::new(shared) }
    }

    /// The client that the informers watch with.
    #[must_use]
    pub fn client(&self) -> &kube::Client {
        &self.shared.client
    }

    /// The informer of every `K` in all namespaces, started if this is its first use. Must be
    /// called inside a tokio runtime.
    #[must_use]
    pub fn get<K: Object>(&self) -> Informer<K>
    where
        K::DynamicType: Default,
    {
        self.get_filtered(None, None)
    }

    /// The informer of those `K` that match the label and field selectors. One is shared by all
    /// who ask with the same two texts.
    #[must_use]
    pub fn get_filtered<K: Object>(&self, labels: Option<&str>, fields: Option<&str>) -> Informer<K>
    where
        K::DynamicType: Default,
    {
        let selection = (TypeId::of::<K>(), labels.map(str::to_owned), fields.map(str::to_owned));
        let mut started = self.shared.started.lock();
        if let Some(found) = started.get(&selection).and_then(|any| any.downcast_ref()) {
            return Informer::clone(found);
        }
        let informer =
            Informer::<K>::start(&self.shared.client, labels, fields, self.shared.shutdown.clone());
        started.insert(selection, Box::new(informer.clone()));
        informer
    }
}

/// A watched store of one kind's objects. Cheap to clone.
pub struct Informer<K: Object> {
    store: Arc<Store<K>>,
    resource: Arc<ApiResource>,
}

impl<K: Object> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Informer { store: Arc::clone(&self.store), resource: Arc::clone(&self.resource) }
    }
}

impl<K: Object> Informer<K> {
    fn start(
        client: &kube::Client,
        labels: Option<&str>,
        fields: Option<&str>,
        shutdown: CancellationToken,
    ) -> Self
    where
        K::DynamicType: Default,
    {
        let kind = K::DynamicType::default();
        let resource = Arc::new(ApiResource::erase::<K>(&kind));
        let store = Arc::new(Store::new());
        let api = Api::<K>::all_with(client.clone(), &kind);
        let mut config = watcher::Config::default().streaming_lists();
        config.label_selector = labels.map(str::to_owned);
        config.field_selector = fields.map(str::to_owned);
        tokio::spawn(follow(api, config, Arc::clone(&store), resource.plural.clone(), shutdown));
        Informer { store, resource }
    }

    /// Waits until the store holds everything that existed when the informer started (or until
    /// the informer was shut down).
    pub async fn synced(&self) {
        self.store.synced().await;
    }

    /// Whether [`Self::synced`] would return at once.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        self.store.has_synced()
    }

    /// The object with this name.
    #[must_use]
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        self.store.get(namespace.unwrap_or_default(), name)
    }

    /// The object with this key.
    #[must_use]
    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.store.get(&key.namespace, &key.name)
    }

    /// Every object, ordered by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.store.list()
    }

    /// Every object of a namespace, ordered by name.
    #[must_use]
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.store.list_in(namespace)
    }

    /// How many objects the store holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether the store holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index: `keys` names the buckets an object belongs to. A second index of the same
    /// name is ignored, so that independent users may each ask for it.
    pub fn add_index(&self, name: &'static str, keys: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        self.store.add_index(name, Box::new(keys));
    }

    /// The objects in one bucket of an index, ordered by namespace and name; none if there is no
    /// such index.
    #[must_use]
    pub fn by_index(&self, index: &str, key: &str) -> Vec<Arc<K>> {
        self.store.by_index(index, key)
    }

    /// Follows the store: first an [`Change::Added`] for everything in it, then each change.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<K> {
        self.store.subscribe()
    }

    /// The greatest resourceVersion the store has taken in, as a number; servers that speak
    /// Kubernetes 1.35 or later promise that versions compare so. Waiting for it to reach the
    /// version of a write is waiting to read that write.
    #[must_use]
    pub fn revision(&self) -> tokio::sync::watch::Receiver<u64> {
        self.store.revision()
    }

    /// Group, version, kind and plural of what the informer holds.
    #[must_use]
    pub fn resource(&self) -> &ApiResource {
        &self.resource
    }
}

/// Feeds `store` from the API until shutdown.
async fn follow<K: Object>(
    api: Api<K>,
    config: watcher::Config,
    store: Arc<Store<K>>,
    plural: String,
    shutdown: CancellationToken,
) {
    let mut events = std::pin::pin!(watcher(api, config));
    let mut pause = WATCH_RETRY_MIN;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => break,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => {
                pause = WATCH_RETRY_MIN;
                store.take(event);
            }
            Some(Err(error)) => {
                tracing::debug!(%plural, %error, ?pause, "watch failed, trying again");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(WATCH_RETRY_MAX);
            }
            None => break,
        }
    }
    store.close();
}
