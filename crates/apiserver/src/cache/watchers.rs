//! Who wants to hear of which change: an index, so that a change costs what its own watchers
//! cost and nothing for those of other objects, namespaces or nodes.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::cache::event::Event;
use crate::cache::object::Object;

/// Events that may wait for one watcher. When it is full the watcher is unhooked: it drains
/// what it has and comes back for the rest to the ring, or ends when that is past.
pub(crate) const QUEUE_EVENTS_MAX: usize = 256;

/// The field whose watchers are found by value: every kubelet watches the pods of its node.
pub(crate) const INDEXED_FIELD: &str = "spec.nodeName";

/// Which changes of a kind a watcher must hear of. A superset of what it wants is fine: the
/// watcher applies its selectors itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// All.
    All,
    /// Those in one namespace.
    Namespace(Box<str>),
    /// Those of one object, by its tail.
    Object(Box<str>),
    /// Those of objects whose [`INDEXED_FIELD`] has, or had, this value.
    Field(Box<str>),
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    events: mpsc::Sender<Arc<Event>>,
}

/// The watchers of one kind.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    next_id: u64,
    all: Vec<Watcher>,
    namespaces: HashMap<Box<str>, Vec<Watcher>>,
    objects: HashMap<Box<str>, Vec<Watcher>>,
    fields: HashMap<Box<str>, Vec<Watcher>>,
}

impl Watchers {
    /// Hooks in a watcher; answers its id and its queue.
    pub(crate) fn add(&mut self, scope: &Scope) -> (u64, mpsc::Receiver<Arc<Event>>) {
        let (events, queue) = mpsc::channel(QUEUE_EVENTS_MAX);
        self.next_id += 1;
        let watcher = Watcher { id: self.next_id, events };
        match scope {
            Scope::All => self.all.push(watcher),
            Scope::Namespace(key) => self.namespaces.entry(key.clone()).or_default().push(watcher),
            Scope::Object(key) => self.objects.entry(key.clone()).or_default().push(watcher),
            Scope::Field(key) => self.fields.entry(key.clone()).or_default().push(watcher),
        }
        (self.next_id, queue)
    }

    /// Unhooks a watcher; unknown ids are fine.
    pub(crate) fn remove(&mut self, scope: &Scope, id: u64) {
        let (map, key) = match scope {
            Scope::All => return self.all.retain(|watcher| watcher.id != id),
            Scope::Namespace(key) => (&mut self.namespaces, key),
            Scope::Object(key) => (&mut self.objects, key),
            Scope::Field(key) => (&mut self.fields, key),
        };
        if let Some(watchers) = map.get_mut(key) {
            watchers.retain(|watcher| watcher.id != id);
            if watchers.is_empty() {
                map.remove(key);
            }
        }
    }

    /// Unhooks everybody: their queues end.
    pub(crate) fn clear(&mut self) {
        *self = Self { next_id: self.next_id, ..Self::default() };
    }

    /// How many are hooked in.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let count = |map: &HashMap<Box<str>, Vec<Watcher>>| map.values().map(Vec::len).sum::<usize>();
        self.all.len() + count(&self.namespaces) + count(&self.objects) + count(&self.fields)
    }

    /// Hands an event to those who must hear of it, without waiting.
    pub(crate) fn deliver(&mut self, event: &Arc<Event>) {
        let Some(object) = event.new.as_deref().or(event.old.as_deref()) else { return };
        offer(&mut self.all, event);
        offer_keyed(&mut self.namespaces, object.namespace(), event);
        offer_keyed(&mut self.objects, object.tail().as_ref(), event);
        if self.fields.is_empty() {
            return;
        }
        let value = |object: &Option<Arc<Object>>| {
            object.as_ref().and_then(|object| object.facts.field(INDEXED_FIELD)).map(str::to_owned)
        };
        let (new, old) = (value(&event.new), value(&event.old));
        if let Some(new) = &new {
            offer_keyed(&mut self.fields, new, event);
        }
        if let Some(old) = old.filter(|old| new.as_ref() != Some(old)) {
            offer_keyed(&mut self.fields, &old, event);
        }
    }
}

fn offer_keyed(map: &mut HashMap<Box<str>, Vec<Watcher>>, key: &str, event: &Arc<Event>) {
    let Some(watchers) = map.get_mut(key) else { return };
    offer(watchers, event);
    if watchers.is_empty() {
        map.remove(key);
    }
}

fn offer(watchers: &mut Vec<Watcher>, event: &Arc<Event>) {
    watchers.retain(|watcher| match watcher.events.try_send(event.clone()) {
        Ok(()) => true,
        // A full queue unhooks its watcher, which will notice when it has drained it.
        Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
    });
}
