//! Kubernetes Events, recorded without ever making the caller wait.
//!
//! A [`Recorder`] hands notes to one task over a bounded channel. The task counts repeats of the
//! same note into one Event object (core/v1, with count, firstTimestamp and lastTimestamp) and
//! holds back objects that produce too many. Events are best effort: what does not fit, or cannot
//! be written after a few tries, is dropped and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

/// Notes that may wait for the writing task; more are dropped.
const QUEUE_NOTES_MAX: usize = 1024;
/// Distinct notes that are remembered to count repeats; the least recent is forgotten.
const REMEMBERED_NOTES_MAX: usize = 4096;
/// Objects whose rate is remembered; the least recent is forgotten (and may burst again).
const REMEMBERED_OBJECTS_MAX: usize = 4096;
/// Events that one object may produce at once (client-go's spam filter).
const OBJECT_BURST: f64 = 25.0;
/// Events per second that one object may produce for long (client-go's: one in five minutes).
const OBJECT_RATE_PER_S: f64 = 1.0 / 300.0;
/// Tries to write one event.
const WRITE_TRIES_MAX: u32 = 3;
/// The pause before a second try to write.
const WRITE_RETRY: Duration = Duration::from_millis(200);
/// The longest message an Event may carry, in bytes; longer ones are cut (the API's limit).
const MESSAGE_BYTES_MAX: usize = 1024;

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Something that is meant to happen.
    Normal,
    /// Something that a user may want to look at.
    Warning,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Type::Normal => "Normal",
            Type::Warning => "Warning",
        }
    }
}

/// What the recorder has done so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events created or updated.
    pub written: AtomicU64,
    /// Notes that were dropped: queue full, object too noisy, or the API refused.
    pub dropped: AtomicU64,
}

struct Note {
    regarding: ObjectReference,
    kind: Type,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Records events in the name of one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    counters: Arc<Counters>,
}

impl Recorder {
    /// A recorder for `component` (`kubelet`, `deployment-controller`, …) running at `instance`
    /// (the node's name for a kubelet). Its task ends when the last clone is dropped. Must be
    /// called inside a tokio runtime.
    #[must_use]
    pub fn new(client: kube::Client, component: &str, instance: &str) -> Self {
        let (notes, queue) = mpsc::channel(QUEUE_NOTES_MAX);
        let counters = Arc::new(Counters::default());
        let writer = Writer {
            client,
            component: component.to_owned(),
            instance: instance.to_owned(),
            seen: Remembered::new(REMEMBERED_NOTES_MAX),
            rates: Remembered::new(REMEMBERED_OBJECTS_MAX),
            counters: Arc::clone(&counters),
        };
        tokio::spawn(writer.run(queue));
        Recorder { notes, counters }
    }

    /// Notes an event about `regarding`. Never blocks and never fails; see the module for what is
    /// dropped.
    pub fn event(&self, regarding: &ObjectReference, kind: Type, reason: &str, message: &str) {
        let note = Note {
            regarding: regarding.clone(),
            kind,
            reason: reason.to_owned(),
            message: cut(message).to_owned(),
            at: Timestamp::now(),
        };
        if self.notes.try_send(note).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts of written and dropped events.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// At most [`MESSAGE_BYTES_MAX`] bytes of `message`, cut between characters.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// A map that forgets its least recently used entry beyond a size.
struct Remembered<K, V> {
    entries: HashMap<K, (u64, V)>,
    clock: u64,
    capacity: usize,
}

impl<K: Clone + Eq + std::hash::Hash, V> Remembered<K, V> {
    fn new(capacity: usize) -> Self {
        Remembered { entries: HashMap::new(), clock: 0, capacity }
    }

    fn get_or_insert(&mut self, key: &K, new: impl FnOnce() -> V) -> &mut V {
        self.clock += 1;
        if !self.entries.contains_key(key) && self.entries.len() >= self.capacity {
            self.forget_older_half();
        }
        let clock = self.clock;
        let entry = self.entries.entry(key.clone()).or_insert_with(|| (clock, new()));
        entry.0 = clock;
        &mut entry.1
    }

    /// Half at a time, so that the cost of finding the oldest is spread over many insertions.
    fn forget_older_half(&mut self) {
        let mut ages: Vec<u64> = self.entries.values().map(|(used, _)| *used).collect();
        let middle = ages.len() / 2;
        let (_, limit, _) = ages.select_nth_unstable(middle);
        let limit = *limit;
        self.entries.retain(|_, (used, _)| *used > limit);
    }
}

/// A token bucket in seconds of the event clock.
struct Bucket {
    tokens: f64,
    filled: Timestamp,
}

impl Bucket {
    fn take(&mut self, now: Timestamp) -> bool {
        let elapsed = now.duration_since(self.filled).as_secs_f64().max(0.0);
        self.tokens = (self.tokens + elapsed * OBJECT_RATE_PER_S).min(OBJECT_BURST);
        self.filled = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

/// What makes two notes the same event.
#[derive(Clone, PartialEq, Eq, Hash)]
struct NoteKey {
    object: String,
    kind: Type,
    reason: String,
    message: String,
}

/// The Event object that stands for a note and its repeats.
#[derive(Clone)]
struct Written {
    name: String,
    count: i32,
}

struct Writer {
    client: kube::Client,
    component: String,
    instance: String,
    seen: Remembered<NoteKey, Option<Written>>,
    rates: Remembered<String, Bucket>,
    counters: Arc<Counters>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Note>) {
        while let Some(note) = queue.recv().await {
            let wrote = self.admit(&note) && self.write(&note).await;
            let counter = if wrote { &self.counters.written } else { &self.counters.dropped };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn admit(&mut self, note: &Note) -> bool {
        let object = object_key(&note.regarding);
        let bucket = self.rates.get_or_insert(&object, || Bucket { tokens: OBJECT_BURST, filled: note.at });
        bucket.take(note.at)
    }

    async fn write(&mut self, note: &Note) -> bool {
        let key = NoteKey {
            object: object_key(&note.regarding),
            kind: note.kind,
            reason: note.reason.clone(),
            message: note.message.clone(),
        };
        let known = self.seen.get_or_insert(&key, || None).clone();
        let written = match known {
            Some(known) => self.count(note, known).await,
            None => self.create(note).await,
        };
        let done = written.is_some();
        *self.seen.get_or_insert(&key, || None) = written;
        done
    }

    async fn create(&self, note: &Note) -> Option<Written> {
        let event = self.object(note);
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace(note));
        for attempt in 1..=WRITE_TRIES_MAX {
            match api.create(&PostParams::default(), &event).await {
                Ok(_) => return Some(Written { name, count: 1 }),
                // The API has answered: saying it again would not change its mind. (A namespace
                // that is being deleted refuses new events.)
                Err(kube::Error::Api(status)) if status.code < 500 => {
                    tracing::debug!(reason = %note.reason, %status.message, "event refused");
                    return None;
                }
                Err(error) if attempt == WRITE_TRIES_MAX => {
                    tracing::debug!(reason = %note.reason, %error, "event dropped");
                }
                Err(_) => tokio::time::sleep(WRITE_RETRY).await,
            }
        }
        None
    }

    async fn count(&self, note: &Note, known: Written) -> Option<Written> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace(note));
        let count = known.count.saturating_add(1);
        let patch = json!({ "count": count, "lastTimestamp": Time(note.at) });
        let params = PatchParams::default();
        match api.patch(&known.name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => Some(Written { name: known.name, count }),
            // It has expired, or its namespace was emptied: begin anew.
            Err(kube::Error::Api(status)) if status.code == 404 => self.create(note).await,
            Err(error) => {
                tracing::debug!(reason = %note.reason, %error, "event repeat not counted");
                Some(known)
            }
        }
    }

    fn object(&self, note: &Note) -> Event {
        let subject = note.regarding.name.as_deref().unwrap_or("unknown");
        // As client-go names them: the object and the time, in hexadecimal nanoseconds.
        let name = format!("{subject}.{:x}", note.at.as_nanosecond());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace(note).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: note.regarding.clone(),
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            type_: Some(note.kind.as_str().to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(note.at)),
            last_timestamp: Some(Time(note.at)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: (!self.instance.is_empty()).then(|| self.instance.clone()),
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace(note: &Note) -> &str {
    match note.regarding.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => namespace,
        _ => "default",
    }
}

fn object_key(regarding: &ObjectReference) -> String {
    let part = |field: &Option<String>| field.clone().unwrap_or_default();
    [
        part(&regarding.kind),
        part(&regarding.namespace),
        part(&regarding.name),
        part(&regarding.uid),
        part(&regarding.field_path),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_pass_and_refills_slowly() {
        let start = Timestamp::UNIX_EPOCH;
        let mut bucket = Bucket { tokens: OBJECT_BURST, filled: start };
        let passed = (0..40).filter(|_| bucket.take(start)).count();
        assert_eq!(passed, 25);
        let later = Timestamp::from_second(301).unwrap();
        assert!(bucket.take(later));
        assert!(!bucket.take(later));
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_recent() {
        let mut memory = Remembered::new(10);
        for key in 0..1000 {
            *memory.get_or_insert(&key, || 0) += 1;
            assert!(memory.entries.len() <= 10);
        }
        assert_eq!(*memory.get_or_insert(&999, || 0), 1);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let long = "é".repeat(1000);
        assert_eq!(cut(&long).len(), 1024);
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&format!("a{long}")).len(), 1023);
    }
}
