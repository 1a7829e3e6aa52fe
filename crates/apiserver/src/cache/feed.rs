//! All caches, and the one watch of the store that feeds them.
//!
//! A single watch serves every kind, so that one number, the progress, says for all of them
//! up to which revision they are complete, also for kinds where nothing happens. It covers
//! the store's whole keyspace for the same reason: a revision that touched nothing of ours
//! still counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_store::{KeyRange, Kv, RangeRequest, WatchMessage, WatchRequest, WatchStream};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache::kind::KindCache;
use crate::registry::{StoredKind, split_key};

/// How long a lost watch of the store rests before it is opened again, in milliseconds.
const REOPEN_PAUSE_MS: u64 = 50;

/// How often a reader tries to fill a cache that is closed under it or overtaken by changes.
const FILL_ATTEMPTS_MAX: usize = 3;

/// Why a cache cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReadError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] coracle_store::Error),
}

/// The caches of all kinds; clones share them.
#[derive(Clone)]
pub(crate) struct Caches(Arc<Shared>);

struct Shared {
    kv: Arc<dyn Kv>,
    history_bytes_max: usize,
    kinds: RwLock<HashMap<String, Arc<KindCache>>>,
    progress: watch::Sender<i64>,
}

impl Caches {
    /// No caches yet; they fill when somebody asks.
    pub(crate) fn new(kv: Arc<dyn Kv>, history_bytes_max: usize) -> Self {
        Self(Arc::new(Shared {
            kv,
            history_bytes_max,
            kinds: RwLock::default(),
            progress: watch::Sender::new(0),
        }))
    }

    /// Opens the watch of the store and follows it until `shutdown`.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) async fn start(&self, shutdown: CancellationToken) -> Result<(), coracle_store::Error> {
        let stream = self.open().await?;
        let caches = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = caches.follow(stream) => {}
            }
            caches.close_all();
        });
        Ok(())
    }

    /// The cache of a kind, filled.
    ///
    /// # Errors
    /// [`ReadError`] when the store does not answer while it fills.
    pub(crate) async fn kind(&self, kind: &Arc<StoredKind>) -> Result<Arc<KindCache>, ReadError> {
        let mut failure = coracle_store::Error::Closed;
        for _ in 0..FILL_ATTEMPTS_MAX {
            let known = self.0.kinds.read().get(kind.path()).cloned();
            let cache = known.unwrap_or_else(|| self.insert(kind));
            if cache.is_ready() {
                return Ok(cache);
            }
            match cache.load(&*self.0.kv).await {
                Ok(()) if cache.is_ready() => return Ok(cache),
                Ok(()) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure.into())
    }

    /// The cache of a kind if it is filled already.
    pub(crate) fn ready(&self, path: &str) -> Option<Arc<KindCache>> {
        self.0.kinds.read().get(path).filter(|cache| cache.is_ready()).cloned()
    }

    fn insert(&self, kind: &Arc<StoredKind>) -> Arc<KindCache> {
        self.0
            .kinds
            .write()
            .entry(kind.path().to_owned())
            .or_insert_with(|| Arc::new(KindCache::new(kind.clone(), self.0.history_bytes_max)))
            .clone()
    }

    /// Forgets a kind; its watches end and the next reader fills a new cache.
    pub(crate) fn forget(&self, path: &str) {
        let cache = self.0.kinds.write().remove(path);
        if let Some(cache) = cache {
            cache.close();
        }
    }

    /// Every cache is complete up to this revision.
    pub(crate) fn progress(&self) -> i64 {
        *self.0.progress.borrow()
    }

    /// Waits until every cache is complete up to `revision`; false when that takes longer
    /// than `patience`.
    pub(crate) async fn reach(&self, revision: i64, patience: Duration) -> bool {
        if self.progress() >= revision {
            return true;
        }
        let mut progress = self.0.progress.subscribe();
        matches!(tokio::time::timeout(patience, progress.wait_for(|at| *at >= revision)).await, Ok(Ok(_)))
    }

    /// The store's revision now, as agreed by its members: the newest that any client may
    /// have seen.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) async fn store_revision(&self) -> Result<i64, coracle_store::Error> {
        revision_of(&*self.0.kv).await
    }

    async fn open(&self) -> Result<WatchStream, coracle_store::Error> {
        let revision = revision_of(&*self.0.kv).await?;
        let stream = self.watch_after(revision).await?;
        self.0.progress.send_replace(revision);
        Ok(stream)
    }

    async fn watch_after(&self, revision: i64) -> Result<WatchStream, coracle_store::Error> {
        let request = WatchRequest {
            range: KeyRange::From(Bytes::from_static(b"\0")),
            start_revision: revision + 1,
            prev_kv: false,
            progress_notify: true,
        };
        self.0.kv.watch(request).await
    }

    /// Follows the store for ever; a lost watch goes on where it ended, and where that is
    /// no longer possible all caches start afresh.
    async fn follow(&self, mut stream: WatchStream) {
        loop {
            match stream.recv().await {
                Some(Ok(WatchMessage::Events { revision, events })) => self.dispatch(revision, events),
                Some(Ok(WatchMessage::Progress { revision })) => self.advance(revision),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the watch of the store ended");
                    stream = self.reopen().await;
                }
                None => stream = self.reopen().await,
            }
        }
    }

    async fn reopen(&self) -> WatchStream {
        loop {
            tokio::time::sleep(Duration::from_millis(REOPEN_PAUSE_MS)).await;
            let opened = match self.watch_after(self.progress()).await {
                Err(coracle_store::Error::Compacted { .. }) => {
                    self.close_all();
                    self.open().await
                }
                other => other,
            };
            match opened {
                Ok(stream) => return stream,
                Err(error) => tracing::warn!(%error, "the store cannot be watched; trying again"),
            }
        }
    }

    fn dispatch(&self, revision: i64, events: Vec<coracle_store::Event>) {
        let mut touched: Vec<(Arc<KindCache>, Vec<coracle_store::Event>)> = Vec::new();
        for event in events {
            let Some((path, _)) = split_key(&event.kv.key) else { continue };
            let Some(cache) = self.0.kinds.read().get(path).cloned() else { continue };
            match touched.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &cache)) {
                Some((_, events)) => events.push(event),
                None => touched.push((cache, vec![event])),
            }
        }
        for (cache, events) in touched {
            cache.apply(revision, events);
        }
        self.advance(revision);
    }

    fn advance(&self, revision: i64) {
        self.0.progress.send_if_modified(|at| {
            let newer = revision > *at;
            if newer {
                *at = revision;
            }
            newer
        });
    }

    fn close_all(&self) {
        let caches = std::mem::take(&mut *self.0.kinds.write());
        for cache in caches.into_values() {
            cache.close();
        }
    }
}

/// A linearizable read of nothing, for its revision.
async fn revision_of(kv: &dyn Kv) -> Result<i64, coracle_store::Error> {
    let mut request = RangeRequest::new(KeyRange::Key(Bytes::from_static(b"/coracle/none")));
    request.count_only = true;
    request.limit = 1;
    Ok(kv.range(request).await?.revision)
}
