//! What an informer holds: objects by namespace and name, its indexes and its followers.
//!
//! One lock guards all of it, so a reader that has seen a change in one index sees it in all, and
//! a new follower misses nothing. No lock is held across an await.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};

use kube::runtime::watcher::Event;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::subscription::{Pending, Subscription};
use super::{Object, ObjectKey};

type IndexKeys<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

struct Index<K> {
    name: &'static str,
    keys: IndexKeys<K>,
    buckets: HashMap<String, BTreeMap<ObjectKey, Arc<K>>>,
}

impl<K> Index<K> {
    fn insert(&mut self, key: &ObjectKey, object: &Arc<K>) {
        for bucket in (self.keys)(object) {
            self.buckets.entry(bucket).or_default().insert(key.clone(), Arc::clone(object));
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &K) {
        for bucket in (self.keys)(object) {
            if let Some(members) = self.buckets.get_mut(&bucket) {
                members.remove(key);
                if members.is_empty() {
                    self.buckets.remove(&bucket);
                }
            }
        }
    }
}

struct State<K> {
    objects: BTreeMap<String, BTreeMap<String, Arc<K>>>,
    indexes: Vec<Index<K>>,
    followers: Vec<Weak<Pending<K>>>,
    /// The keys named by the list in progress; what it does not name is deleted at its end.
    listed: HashSet<ObjectKey>,
    closed: bool,
}

/// An informer's state; see the module.
pub(super) struct Store<K> {
    state: RwLock<State<K>>,
    synced: watch::Sender<bool>,
    revision: watch::Sender<u64>,
}

impl<K: Object> Store<K> {
    pub(super) fn new() -> Self {
        let state = State {
            objects: BTreeMap::new(),
            indexes: Vec::new(),
            followers: Vec::new(),
            listed: HashSet::new(),
            closed: false,
        };
        Store {
            state: RwLock::new(state),
            synced: watch::Sender::new(false),
            revision: watch::Sender::new(0),
        }
    }

    /// Takes in one event of the watch.
    pub(super) fn take(&self, event: Event<K>) {
        match event {
            Event::Init => self.state.write().listed.clear(),
            Event::InitApply(object) => self.apply(object, true),
            Event::InitDone => {
                self.finish_list();
                self.synced.send_replace(true);
            }
            Event::Apply(object) => self.apply(object, false),
            Event::Delete(object) => self.delete(&object),
        }
    }

    fn apply(&self, mut object: K, listed: bool) {
        object.meta_mut().managed_fields = None;
        let revision = revision_of(&object);
        let key = ObjectKey::of(&object);
        {
            let mut state = self.state.write();
            if listed {
                state.listed.insert(key.clone());
            }
            state.put(key, Arc::new(object));
        }
        self.observe(revision);
    }

    fn delete(&self, last: &K) {
        self.state.write().remove(&ObjectKey::of(last));
        self.observe(revision_of(last));
    }

    fn finish_list(&self) {
        let mut state = self.state.write();
        let listed = std::mem::take(&mut state.listed);
        let vanished: Vec<ObjectKey> = state.keys().filter(|key| !listed.contains(key)).collect();
        for key in vanished {
            state.remove(&key);
        }
    }

    fn observe(&self, revision: Option<u64>) {
        let Some(revision) = revision else { return };
        self.revision.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
    }

    /// Ends every subscription and lets those who wait for the first list go on.
    pub(super) fn close(&self) {
        let mut state = self.state.write();
        state.closed = true;
        for follower in state.followers.drain(..).filter_map(|weak| weak.upgrade()) {
            follower.close();
        }
        self.synced.send_replace(true);
    }

    pub(super) async fn synced(&self) {
        // The sender lives as long as `self`, so this ends only with the value.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    pub(super) fn has_synced(&self) -> bool {
        *self.synced.borrow()
    }

    pub(super) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.state.read().objects.get(namespace)?.get(name).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<K>> {
        self.state.read().objects.values().flat_map(BTreeMap::values).cloned().collect()
    }

    pub(super) fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        state.objects.get(namespace).map(|all| all.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.state.read().objects.values().map(BTreeMap::len).sum()
    }

    pub(super) fn add_index(&self, name: &'static str, keys: IndexKeys<K>) {
        let mut guard = self.state.write();
        let state = &mut *guard;
        if state.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, keys, buckets: HashMap::new() };
        for (namespace, objects) in &state.objects {
            for (name, object) in objects {
                index.insert(&ObjectKey::new(namespace, name), object);
            }
        }
        state.indexes.push(index);
    }

    pub(super) fn by_index(&self, index: &str, key: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        let found = state.indexes.iter().find(|candidate| candidate.name == index);
        found
            .and_then(|index| index.buckets.get(key))
            .map(|members| members.values().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn subscribe(&self) -> Subscription<K> {
        let pending = Arc::new(Pending::new());
        let mut state = self.state.write();
        for (namespace, objects) in &state.objects {
            for (name, object) in objects {
                pending.push(ObjectKey::new(namespace, name), None, Some(Arc::clone(object)));
            }
        }
        if state.closed {
            pending.close();
        } else {
            state.followers.push(Arc::downgrade(&pending));
        }
        Subscription::new(pending)
    }
}

impl<K: Object> State<K> {
    fn keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.objects
            .iter()
            .flat_map(|(namespace, objects)| objects.keys().map(move |name| ObjectKey::new(namespace, name)))
    }

    fn put(&mut self, key: ObjectKey, object: Arc<K>) {
        let objects = self.objects.entry(key.namespace.clone()).or_default();
        let unchanged = objects.get(&key.name).is_some_and(|stored| same(&**stored, &*object));
        if unchanged {
            return;
        }
        let old = objects.insert(key.name.clone(), Arc::clone(&object));
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &object);
        }
        self.tell(&key, old.as_ref(), Some(&object));
    }

    fn remove(&mut self, key: &ObjectKey) {
        let Some(objects) = self.objects.get_mut(&key.namespace) else { return };
        let Some(old) = objects.remove(&key.name) else { return };
        if objects.is_empty() {
            self.objects.remove(&key.namespace);
        }
        for index in &mut self.indexes {
            index.remove(key, &old);
        }
        self.tell(key, Some(&old), None);
    }

    fn tell(&mut self, key: &ObjectKey, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        self.followers.retain(|weak| {
            let Some(follower) = weak.upgrade() else { return false };
            follower.push(key.clone(), old.cloned(), new.cloned());
            true
        });
    }
}

/// Whether two values are the same version of the same object.
fn same<K: Object>(a: &K, b: &K) -> bool {
    let (a, b) = (a.meta(), b.meta());
    a.uid == b.uid && a.resource_version.is_some() && a.resource_version == b.resource_version
}

fn revision_of<K: Object>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, revision: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("ns".into());
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(format!("uid-{name}"));
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    fn told(subscription: &mut Subscription<ConfigMap>) -> Vec<String> {
        let name = |object: &ConfigMap| object.metadata.name.clone().unwrap();
        std::iter::from_fn(|| subscription.try_next())
            .map(|change| match change {
                Change::Added(new) => format!("+{}", name(&new)),
                Change::Updated { new, .. } => format!("~{}", name(&new)),
                Change::Deleted(old) => format!("-{}", name(&old)),
            })
            .collect()
    }

    #[test]
    fn a_list_replaces_what_it_does_not_name() {
        let store = Store::new();
        for event in
            [Event::Init, Event::InitApply(object("a", 1)), Event::InitApply(object("b", 2)), Event::InitDone]
        {
            store.take(event);
        }
        assert!(store.has_synced());
        let mut subscription = store.subscribe();
        assert_eq!(told(&mut subscription), ["+a", "+b"]);
        for event in
            [Event::Init, Event::InitApply(object("b", 2)), Event::InitApply(object("c", 4)), Event::InitDone]
        {
            store.take(event);
        }
        assert_eq!(told(&mut subscription), ["+c", "-a"]);
        assert_eq!(store.len(), 2);
        assert_eq!(*store.revision().borrow(), 4);
    }

    #[test]
    fn pending_changes_of_one_object_are_one_change() {
        let store = Store::new();
        store.take(Event::Apply(object("a", 1)));
        let mut subscription = store.subscribe();
        store.take(Event::Apply(object("a", 2)));
        assert_eq!(told(&mut subscription), ["+a"]);
        store.take(Event::Apply(object("a", 3)));
        store.take(Event::Delete(object("a", 4)));
        store.take(Event::Apply(object("b", 5)));
        store.take(Event::Delete(object("b", 6)));
        assert_eq!(told(&mut subscription), ["-a"]);
    }

    #[test]
    fn a_recreated_object_is_deleted_first() {
        let store = Store::new();
        store.take(Event::Apply(object("a", 1)));
        let mut subscription = store.subscribe();
        assert_eq!(told(&mut subscription), ["+a"]);
        let mut again = object("a", 3);
        again.metadata.uid = Some("other".into());
        store.take(Event::Delete(object("a", 2)));
        store.take(Event::Apply(again));
        assert_eq!(told(&mut subscription), ["-a", "+a"]);
    }

    #[test]
    fn indexes_follow_changes() {
        let store = Store::new();
        store.take(Event::Apply(object("a", 1)));
        store.add_index(
            "label",
            Box::new(|object: &ConfigMap| {
                object.metadata.labels.iter().flatten().map(|(_, value)| value.clone()).collect()
            }),
        );
        let mut labelled = object("a", 2);
        labelled.metadata.labels = Some([("app".to_owned(), "x".to_owned())].into());
        store.take(Event::Apply(labelled));
        assert_eq!(store.by_index("label", "x").len(), 1);
        store.take(Event::Apply(object("a", 3)));
        assert!(store.by_index("label", "x").is_empty());
    }
}
