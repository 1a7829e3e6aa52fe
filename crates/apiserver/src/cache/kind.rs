//! The cache of one kind: its objects in key order, its past and its watchers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use coracle_store::{EventKind, KeyRange, KeyValue, Kv, RangeRequest};
use parking_lot::RwLock;
use tokio::sync::{OnceCell, mpsc};

use crate::cache::event::{Change, Event};
use crate::cache::object::Object;
use crate::cache::ring::{Resume, Ring};
use crate::cache::watchers::{Scope, Watchers};
use crate::registry::StoredKind;

/// Keys read at once while a cache fills: bounds one answer of the store.
const LOAD_PAGE_KEYS: usize = 2_000;
/// Changes that may arrive while a cache fills. Beyond it the load fails and the next reader
/// starts it again.
const PENDING_EVENTS_MAX: usize = 100_000;
/// Past events handed to a resuming watch at once. The rest follows when it has sent them,
/// so that a slow reader cannot pin the whole past in memory.
const BACKLOG_EVENTS_MAX: usize = 256;

/// Which objects of a kind, by place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// All.
    All,
    /// One namespace's.
    Namespace(String),
    /// One object, by tail.
    Object(String),
}

/// The newest state of one kind.
pub(crate) struct KindCache {
    kind: Arc<StoredKind>,
    loaded: OnceCell<()>,
    history_bytes_max: usize,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    ring: Ring,
    watchers: Watchers,
    sequence: u64,
    /// The revision of the newest change, or of the load.
    changed_at: i64,
}

#[derive(Debug)]
enum Phase {
    /// Nobody has asked yet; changes are not recorded.
    Cold,
    /// The load is under way; changes wait for its end.
    Loading(Vec<(i64, Vec<coracle_store::Event>)>),
    /// In step with the feed.
    Ready,
    /// Out of use for good: the kind's schema changed or the feed lost its place.
    Closed,
}

/// The state of a place of a kind at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The objects in key order.
    pub(crate) objects: Vec<Arc<Object>>,
    /// The newest revision that changed the kind, which the snapshot includes.
    pub(crate) changed_at: i64,
}

/// What a watch got when it asked to be hooked in.
pub(crate) enum Attached {
    /// The cache is out of use; the client must begin again.
    Closed,
    /// What it asks for is past.
    TooOld {
        /// The oldest revision to resume from.
        floor: i64,
    },
    /// There is more past than is given at once: send this, then ask again.
    Behind(Vec<Arc<Event>>),
    /// Send this, then what the subscription brings.
    Live(Vec<Arc<Event>>, Subscription),
}

/// A watcher's place in the index, left when it is dropped.
pub(crate) struct Subscription {
    cache: Arc<KindCache>,
    scope: Scope,
    id: u64,
    queue: mpsc::Receiver<Arc<Event>>,
}

impl Subscription {
    /// The next event. `None`: unhooked because the queue was full or the cache is out of
    /// use; ask to be attached again.
    pub(crate) async fn next(&mut self) -> Option<Arc<Event>> {
        self.queue.recv().await
    }

    /// An event that is there already.
    pub(crate) fn ready(&mut self) -> Option<Arc<Event>> {
        self.queue.try_recv().ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.state.write().watchers.remove(&self.scope, self.id);
    }
}

impl KindCache {
    /// An empty cache that must be loaded before it is read.
    pub(crate) fn new(kind: Arc<StoredKind>, history_bytes_max: usize) -> Self {
        let state = State {
            phase: Phase::Cold,
            objects: BTreeMap::new(),
            ring: Ring::new(0, history_bytes_max),
            watchers: Watchers::default(),
            sequence: 0,
            changed_at: 0,
        };
        Self { kind, loaded: OnceCell::new(), history_bytes_max, state: RwLock::new(state) }
    }

    /// Whether it serves reads now.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state.read().phase, Phase::Ready)
    }

    /// One object.
    pub(crate) fn get(&self, tail: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(tail).cloned()
    }

    /// The newest revision that changed the kind.
    pub(crate) fn changed_at(&self) -> i64 {
        self.state.read().changed_at
    }

    /// The objects of `place` from the tail `start` on, under a short read lock: only
    /// reference counts are touched.
    pub(crate) fn snapshot(&self, place: &Place, start: Option<&str>) -> Snapshot {
        let state = self.state.read();
        let changed_at = state.changed_at;
        let objects = match place {
            Place::Object(tail) => state
                .objects
                .get(tail.as_str())
                .filter(|_| start.is_none_or(|start| start <= tail.as_str()))
                .cloned()
                .into_iter()
                .collect(),
            Place::All => collect(&state.objects, start.unwrap_or_default(), |_| true),
            Place::Namespace(namespace) => {
                let prefix = format!("{namespace}/");
                let from = start.filter(|start| *start > prefix.as_str()).unwrap_or(&prefix);
                collect(&state.objects, from, |tail| tail.starts_with(&prefix))
            }
        };
        Snapshot { objects, changed_at }
    }

    /// Hooks in a watch that has seen everything up to `resume`.
    pub(crate) fn attach(self: &Arc<Self>, scope: &Scope, resume: Resume) -> Attached {
        let mut state = self.state.write();
        if !matches!(state.phase, Phase::Ready) {
            return Attached::Closed;
        }
        let Some(past) = state.ring.from(resume) else {
            return Attached::TooOld { floor: state.ring.floor() };
        };
        let mut backlog: Vec<Arc<Event>> = Vec::new();
        let mut behind = false;
        for event in past.filter(|event| concerns(event, scope)) {
            if backlog.len() == BACKLOG_EVENTS_MAX {
                behind = true;
                break;
            }
            backlog.push(event.clone());
        }
        if behind {
            return Attached::Behind(backlog);
        }
        let (id, queue) = state.watchers.add(scope);
        let subscription = Subscription { cache: self.clone(), scope: scope.clone(), id, queue };
        Attached::Live(backlog, subscription)
    }

    /// Takes in the changes of one revision, in order.
    pub(crate) fn apply(&self, revision: i64, events: Vec<coracle_store::Event>) {
        {
            let mut state = self.state.write();
            match &mut state.phase {
                Phase::Cold | Phase::Closed => return,
                Phase::Loading(pending) => {
                    if pending.len() < PENDING_EVENTS_MAX {
                        pending.push((revision, events));
                    } else {
                        state.phase = Phase::Cold;
                    }
                    return;
                }
                Phase::Ready => {}
            }
        }
        // Only the feed applies, so the phase can only turn to `Closed` in between; and
        // decoding outside of the lock keeps readers going.
        let decoded: Vec<Decoded> = events.into_iter().filter_map(|event| self.decode_event(event)).collect();
        self.state.write().change(revision, decoded);
    }

    /// Puts the cache out of use; its watches end.
    pub(crate) fn close(&self) {
        let mut state = self.state.write();
        state.phase = Phase::Closed;
        state.objects.clear();
        state.watchers.clear();
    }

    /// Fills the cache from the store, once; concurrent callers wait for the same load.
    ///
    /// # Errors
    /// Of the store; the next caller tries again.
    pub(crate) async fn load(&self, kv: &dyn Kv) -> Result<(), coracle_store::Error> {
        self.loaded.get_or_try_init(|| self.fill(kv)).await.map(|_| ())
    }

    async fn fill(&self, kv: &dyn Kv) -> Result<(), coracle_store::Error> {
        self.begin()?;
        let unfinished = Unfinished(self);
        let mut objects = BTreeMap::new();
        let mut range = KeyRange::prefix(self.kind.prefix().to_owned());
        let mut revision = 0;
        loop {
            let mut request = RangeRequest::new(range.clone());
            request.limit = LOAD_PAGE_KEYS;
            request.revision = revision;
            let page = kv.range(request).await?;
            if revision == 0 {
                revision = page.revision;
            }
            let next = page.kvs.last().map(|kv| after(&kv.key));
            for kv in page.kvs {
                if let Some(object) = self.decode(&kv) {
                    objects.insert(object.tail().clone(), Arc::new(object));
                }
            }
            let rest = match &range {
                KeyRange::Range(_, end) if page.more => next.map(|next| KeyRange::Range(next, end.clone())),
                _ => None,
            };
            let Some(rest) = rest else { break };
            range = rest;
        }
        std::mem::forget(unfinished);
        self.finish(objects, revision)
    }

    fn begin(&self) -> Result<(), coracle_store::Error> {
        let mut state = self.state.write();
        if matches!(state.phase, Phase::Closed) {
            return Err(coracle_store::Error::WatchLagging);
        }
        state.phase = Phase::Loading(Vec::new());
        Ok(())
    }

    fn finish(
        &self,
        objects: BTreeMap<Arc<str>, Arc<Object>>,
        revision: i64,
    ) -> Result<(), coracle_store::Error> {
        let mut state = self.state.write();
        let Phase::Loading(pending) = &mut state.phase else {
            // Closed meanwhile, or more changes than may wait.
            return Err(coracle_store::Error::WatchLagging);
        };
        let pending = std::mem::take(pending);
        state.objects = objects;
        state.ring = Ring::new(revision, self.history_bytes_max);
        state.changed_at = revision;
        for (changed, events) in pending {
            if changed > revision {
                let decoded = events.into_iter().filter_map(|event| self.decode_event(event)).collect();
                state.change(changed, decoded);
            }
        }
        state.phase = Phase::Ready;
        Ok(())
    }

    fn decode_event(&self, event: coracle_store::Event) -> Option<Decoded> {
        let tail = self.tail(&event.kv.key)?;
        match event.kind {
            EventKind::Delete => Some(Decoded { tail, object: None }),
            // What cannot be read is treated as absent, and said so in the log.
            EventKind::Put => Some(Decoded { tail, object: self.decode(&event.kv).map(Arc::new) }),
        }
    }

    fn tail(&self, key: &[u8]) -> Option<Arc<str>> {
        let tail = key.strip_prefix(self.kind.prefix().as_bytes())?;
        std::str::from_utf8(tail).ok().map(Arc::from)
    }

    /// Makes an object of a key-value of the store; `None`, logged, when it cannot be read.
    pub(crate) fn decode(&self, kv: &KeyValue) -> Option<Object> {
        let tail = self.tail(&kv.key)?;
        match self.kind.decode(&kv.value) {
            Ok((stored, facts)) => {
                let change = if kv.version == 1 { Change::Added } else { Change::Modified };
                Some(Object::new(tail, change, &stored, kv.mod_revision, facts))
            }
            Err(error) => {
                tracing::error!(key = %String::from_utf8_lossy(&kv.key), %error, "unreadable object in the store");
                None
            }
        }
    }
}

struct Decoded {
    tail: Arc<str>,
    object: Option<Arc<Object>>,
}

impl State {
    fn change(&mut self, revision: i64, changes: Vec<Decoded>) {
        for Decoded { tail, object } in changes {
            let old = match &object {
                Some(new) => self.objects.insert(new.tail().clone(), new.clone()),
                None => self.objects.remove(&tail),
            };
            if object.is_none() && old.is_none() {
                continue;
            }
            self.sequence += 1;
            let event = Arc::new(Event::new(self.sequence, revision, object, old));
            self.watchers.deliver(&event);
            self.ring.push(event);
        }
        self.changed_at = self.changed_at.max(revision);
    }
}

/// Turns a cache whose load was abandoned cold again.
struct Unfinished<'a>(&'a KindCache);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.write();
        if matches!(state.phase, Phase::Loading(_)) {
            state.phase = Phase::Cold;
        }
    }
}

/// The key right after `key`.
fn after(key: &[u8]) -> bytes::Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

fn collect(
    objects: &BTreeMap<Arc<str>, Arc<Object>>,
    from: &str,
    within: impl Fn(&str) -> bool,
) -> Vec<Arc<Object>> {
    objects
        .range::<str, _>((Bound::Included(from), Bound::Unbounded))
        .take_while(|(tail, _)| within(tail))
        .map(|(_, object)| object.clone())
        .collect()
}

fn concerns(event: &Event, scope: &Scope) -> bool {
    let Some(object) = event.new.as_deref().or(event.old.as_deref()) else { return false };
    match scope {
        Scope::All => true,
        Scope::Namespace(namespace) => object.namespace() == &**namespace,
        Scope::Object(tail) => **object.tail() == **tail,
        Scope::Field(value) => [&event.new, &event.old]
            .into_iter()
            .flatten()
            .any(|object| object.facts.field(crate::cache::watchers::INDEXED_FIELD) == Some(&**value)),
    }
}
