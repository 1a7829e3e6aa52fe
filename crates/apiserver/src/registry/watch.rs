//! Watch: what exists, if asked for, then every change, then the end.
//!
//! A watch is pulled by its client. What it has not taken waits in a bounded queue; when
//! that is full the feed forgets the watch, which then goes on from the cache's past, and
//! ends with 410 when that is no longer there. So a slow client costs a queue, not memory
//! without bound, and never delays anybody else.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use coracle_api::status::Status;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep_until};

use crate::cache::{Attached, Caches, Change, Event, KindCache, Object, Resume, Subscription, frame_of};
use crate::registry::index::Row;
use crate::registry::options::{self, At};
use crate::registry::selection::Selection;
use crate::registry::{Registry, Reply, failure, read, render};
use crate::request::{Call, ListOptions, Shape};

/// Shortest life of a watch that names none, in seconds; the longest is twice that, so that
/// clients do not all come back at once.
const TIMEOUT_S: u64 = 1_800;
/// Time between bookmarks of a quiet watch, in seconds.
const BOOKMARK_S: u64 = 60;
/// How long before its end a watch gets a last bookmark, in seconds.
const LAST_BOOKMARK_S: u64 = 2;
/// After how long a bookmark that met waiting events is tried again, in milliseconds.
const BOOKMARK_RETRY_MS: u64 = 100;
/// Initial events are sent in chunks of about this size, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where a watch begins.
enum Begin {
    /// With what exists at the newest state, or any at hand.
    Existing(At),
    /// With the changes after a revision.
    After(i64),
    /// With the changes from now on.
    Now,
}

impl Registry {
    /// A watch of a collection or of one object.
    pub(super) async fn watch(&self, row: &Arc<Row>, call: &Call) -> Result<Reply, Status> {
        let options = call.info.list_options()?;
        options::check_list(&options, true)?;
        if !row.resource.is_stored() {
            return Err(Status::method_unknown());
        }
        let namespace = read::collection_namespace(row, call);
        let name = call.info.name.as_deref();
        let selection = Selection::new(row, namespace, name, &options)?;
        let begin = begin(&options)?;
        let cache = self.0.caches.kind(&row.stored).await.map_err(|e| failure::cache(&e))?;
        let mut watch =
            Watch::new(self.0.caches.clone(), cache, row.clone(), selection, call.format.shape, &options);
        if let Err(status) = self.position(&mut watch, begin, &options).await {
            // Once a watch is accepted, trouble with its revision is an event, not an answer.
            watch.fail(&status);
        }
        let frames = futures::stream::unfold(watch, |mut watch| async move {
            let frame = watch.next().await?;
            Some((frame, watch))
        });
        Ok(Reply::Watch { frames: Box::pin(frames), warnings: Vec::new() })
    }

    async fn position(&self, watch: &mut Watch, begin: Begin, options: &ListOptions) -> Result<(), Status> {
        match begin {
            Begin::After(revision) => {
                self.require(&watch.cache, revision).await?;
                watch.resume = Resume::AfterRevision(revision);
            }
            Begin::Now => {
                let revision = self.0.caches.store_revision().await.map_err(|e| failure::store(&e))?;
                self.require(&watch.cache, revision).await?;
                watch.resume = Resume::AfterRevision(revision);
            }
            Begin::Existing(at) => {
                match at {
                    At::Newest => {
                        let revision =
                            self.0.caches.store_revision().await.map_err(|e| failure::store(&e))?;
                        self.require(&watch.cache, revision).await?;
                    }
                    At::NotOlderThan(revision) | At::Exact(revision) => {
                        self.require(&watch.cache, revision).await?
                    }
                    At::Any => {}
                }
                let reached = self.0.caches.progress();
                let snapshot = watch.cache.snapshot(&watch.selection.place, None);
                watch.initial =
                    snapshot.objects.into_iter().filter(|object| watch.selection.matches(object)).collect();
                watch.resume = Resume::AfterRevision(snapshot.changed_at);
                watch.seen = snapshot.changed_at.max(reached);
                watch.initial_end =
                    options.send_initial_events == Some(true) && options.allow_watch_bookmarks;
            }
        }
        Ok(())
    }
}

fn begin(options: &ListOptions) -> Result<Begin, Status> {
    let version = match options.resource_version.as_deref() {
        None | Some("") => None,
        Some(text) => {
            Some(options::parse_version(text).map_err(|status| Status::bad_request(status.message))?)
        }
    };
    Ok(match (options.send_initial_events, version) {
        (Some(true), None) | (None, None) => Begin::Existing(At::Newest),
        (Some(true) | None, Some(0)) => Begin::Existing(At::Any),
        (Some(true), Some(version)) => Begin::Existing(At::NotOlderThan(version)),
        (Some(false), None | Some(0)) => Begin::Now,
        (None | Some(false), Some(version)) => Begin::After(version),
    })
}

/// A watch under way.
struct Watch {
    caches: Caches,
    cache: Arc<KindCache>,
    row: Arc<Row>,
    selection: Selection,
    shape: Shape,
    bookmarks: bool,
    initial: VecDeque<Arc<Object>>,
    /// Whether a bookmark must say that the initial events are over.
    initial_end: bool,
    backlog: VecDeque<Arc<Event>>,
    subscription: Option<Subscription>,
    resume: Resume,
    /// The newest revision known to be complete for the client.
    seen: i64,
    /// Whether a Table has explained its columns.
    explained: bool,
    failure: Option<Bytes>,
    ended: bool,
    deadline: Instant,
    next_bookmark: Instant,
}

impl Watch {
    fn new(
        caches: Caches,
        cache: Arc<KindCache>,
        row: Arc<Row>,
        selection: Selection,
        shape: Shape,
        options: &ListOptions,
    ) -> Self {
        let now = Instant::now();
        let seconds = match options.timeout_s {
            Some(seconds) if seconds > 0 => u64::try_from(seconds).unwrap_or(TIMEOUT_S),
            _ => rand::random_range(TIMEOUT_S..TIMEOUT_S * 2),
        };
        let deadline = now + Duration::from_secs(seconds.min(MAX_TIMEOUT_S));
        let mut watch = Self {
            caches,
            cache,
            row,
            selection,
            shape,
            bookmarks: options.allow_watch_bookmarks,
            initial: VecDeque::new(),
            initial_end: false,
            backlog: VecDeque::new(),
            subscription: None,
            resume: Resume::AfterRevision(0),
            seen: 0,
            explained: false,
            failure: None,
            ended: false,
            deadline,
            next_bookmark: now,
        };
        watch.plan_bookmark(now);
        watch
    }

    /// The next bookmark comes after the usual time, or just before the end if that is
    /// sooner.
    fn plan_bookmark(&mut self, now: Instant) {
        let usual = now + Duration::from_secs(BOOKMARK_S);
        let last = self.deadline.checked_sub(Duration::from_secs(LAST_BOOKMARK_S)).unwrap_or(now);
        self.next_bookmark = if last > now && last < usual { last } else { usual };
    }

    fn fail(&mut self, status: &Status) {
        let object = serde_json::to_value(status).unwrap_or_default();
        self.failure = Some(event_frame("ERROR", &object));
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.failure.take() {
                self.ended = true;
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            if !self.initial.is_empty() {
                return Some(self.initial_chunk());
            }
            if std::mem::take(&mut self.initial_end) {
                return Some(self.bookmark(true));
            }
            if let Some(event) = self.backlog.pop_front() {
                self.resume = Resume::AfterSequence(event.sequence);
                self.seen = self.seen.max(event.revision);
                if let Some(frame) = self.frame(&event) {
                    return Some(frame);
                }
                continue;
            }
            if let Some(frame) = self.wait().await {
                return Some(frame);
            }
        }
    }

    /// Waits for events, the time of a bookmark or the end. A frame only for a bookmark.
    async fn wait(&mut self) -> Option<Bytes> {
        let Some(subscription) = &mut self.subscription else {
            self.attach();
            return None;
        };
        let wake = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
        tokio::select! {
            biased;
            event = subscription.next() => {
                match event {
                    Some(event) => self.backlog.push_back(event),
                    None => self.subscription = None,
                }
                None
            }
            () = sleep_until(wake) => self.wake(Instant::now()),
        }
    }

    fn wake(&mut self, now: Instant) -> Option<Bytes> {
        if now >= self.deadline {
            self.ended = true;
            return None;
        }
        // The revision is read before the queue is found empty: everything up to it was in
        // the queue by then.
        let reached = self.caches.progress();
        if let Some(event) = self.subscription.as_mut().and_then(Subscription::ready) {
            self.backlog.push_back(event);
            self.next_bookmark = now + Duration::from_millis(BOOKMARK_RETRY_MS);
            return None;
        }
        self.seen = self.seen.max(reached);
        self.plan_bookmark(now);
        Some(self.bookmark(false))
    }

    fn attach(&mut self) {
        match self.cache.attach(&self.selection.scope(), self.resume) {
            Attached::Closed => self.ended = true,
            Attached::TooOld { floor } => {
                let from = match self.resume {
                    Resume::AfterRevision(revision) => revision,
                    Resume::AfterSequence(_) => self.seen,
                };
                self.fail(&Status::expired(format!("too old resource version: {from} ({floor})")));
            }
            Attached::Behind(events) => self.backlog.extend(events),
            Attached::Live(events, subscription) => {
                self.backlog.extend(events);
                self.subscription = Some(subscription);
            }
        }
    }

    fn initial_chunk(&mut self) -> Bytes {
        let Some(first) = self.initial.pop_front() else { return Bytes::new() };
        let mut chunk = BytesMut::from(&self.initial_frame(&first)[..]);
        while chunk.len() < CHUNK_BYTES {
            let Some(object) = self.initial.pop_front() else { break };
            let frame = self.initial_frame(&object);
            chunk.extend_from_slice(&frame);
        }
        chunk.freeze()
    }

    fn initial_frame(&mut self, object: &Object) -> Bytes {
        if self.is_plain() { object.frame(Change::Added) } else { self.shaped(Change::Added, object.body()) }
    }

    /// Whether frames can be shared as they are.
    fn is_plain(&self) -> bool {
        self.shape == Shape::Object && self.row.is_storage_version()
    }

    fn frame(&mut self, event: &Event) -> Option<Bytes> {
        let selection = &self.selection;
        let change = event.change_for(|object| selection.contains(object) && selection.matches(object))?;
        Some(if self.is_plain() { event.frame(change) } else { self.shaped(change, event.body(change)) })
    }

    fn shaped(&mut self, change: Change, body: Bytes) -> Bytes {
        let columns = !std::mem::replace(&mut self.explained, true);
        match render::shaped(&self.row, body, self.shape, columns) {
            Ok(body) => frame_of(change, &body),
            Err(status) => {
                self.ended = true;
                event_frame("ERROR", &serde_json::to_value(&status).unwrap_or_default())
            }
        }
    }

    fn bookmark(&self, ends_initial_events: bool) -> Bytes {
        event_frame("BOOKMARK", &render::bookmark(&self.row, self.seen, ends_initial_events, self.shape))
    }
}

/// Longest life of a watch, in seconds: a client may ask for no more than a year.
const MAX_TIMEOUT_S: u64 = 365 * 24 * 3600;

fn event_frame(kind: &str, object: &Value) -> Bytes {
    let mut frame = serde_json::to_vec(&json!({"type": kind, "object": object})).unwrap_or_default();
    frame.push(b'\n');
    frame.into()
}
