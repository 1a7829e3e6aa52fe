//! Get and list: from the watch cache wherever it can show the state that is asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api::status::Status;
use coracle_store::{Error, KeyRange, RangeRequest};

use crate::cache::{KindCache, Object, Place};
use crate::registry::index::Row;
use crate::registry::key::ObjectKey;
use crate::registry::options::{self, At};
use crate::registry::paging::Continue;
use crate::registry::render::{self, ListMeta};
use crate::registry::selection::Selection;
use crate::registry::{Registry, Reply, failure, storage};
use crate::request::Call;

/// How long a read waits for its cache to reach the newest revision before it reads the
/// store itself, in milliseconds. The feed is usually microseconds behind.
const FRESH_WAIT_MS: u64 = 500;
/// How long a read waits for a revision that the client has seen and this server has not.
/// Beyond it: 504 with a hint to try again, as from kube-apiserver.
pub(super) const FUTURE_WAIT_MS: u64 = 3_000;
/// Keys read at once when a past state is read from the store.
const PAST_PAGE_KEYS: usize = 1_000;

/// A part of a list before it is written down.
struct Page {
    objects: Vec<Arc<Object>>,
    revision: i64,
    /// Whether matching objects follow.
    more: bool,
    /// How many follow; known only without selectors.
    remaining: Option<usize>,
}

impl Registry {
    /// GET of one object.
    pub(super) async fn get(&self, row: &Arc<Row>, call: &Call) -> Result<Reply, Status> {
        let at = match call.info.query.non_empty("resourceVersion") {
            None => At::Newest,
            Some(text) => match options::parse_version(text)? {
                0 => At::Any,
                version => At::NotOlderThan(version),
            },
        };
        let key = target(row, call)?;
        let object =
            self.read(row, &key, at).await?.ok_or_else(|| failure::object_not_found(row, key.name()))?;
        render::object(row, 200, object.body(), call.format.shape)
    }

    /// One object in the state asked for.
    pub(super) async fn read(
        &self,
        row: &Row,
        key: &ObjectKey,
        at: At,
    ) -> Result<Option<Arc<Object>>, Status> {
        let cache = self.0.caches.kind(&row.stored).await.map_err(|e| failure::cache(&e))?;
        match at {
            At::Any => {}
            At::NotOlderThan(version) | At::Exact(version) => self.require(&cache, version).await?,
            At::Newest => {
                if !self.is_fresh(&cache).await? {
                    let found =
                        storage::get(&*self.0.kv, key.bytes()).await.map_err(|e| failure::store(&e))?;
                    return Ok(found.and_then(|kv| cache.decode(&kv)).map(Arc::new));
                }
            }
        }
        Ok(cache.get(key.tail()))
    }

    /// Whether the cache shows, or soon enough does, everything that anybody may have seen.
    async fn is_fresh(&self, cache: &KindCache) -> Result<bool, Status> {
        let revision = self.0.caches.store_revision().await.map_err(|e| failure::store(&e))?;
        if cache.changed_at() >= revision {
            return Ok(true);
        }
        Ok(self.0.caches.reach(revision, Duration::from_millis(FRESH_WAIT_MS)).await)
    }

    /// Waits until the cache has reached a revision that the client names.
    ///
    /// # Errors
    /// 504 when it does not.
    pub(super) async fn require(&self, cache: &KindCache, version: i64) -> Result<(), Status> {
        if cache.changed_at() >= version
            || self.0.caches.reach(version, Duration::from_millis(FUTURE_WAIT_MS)).await
        {
            return Ok(());
        }
        Err(failure::too_large_version(version, self.0.caches.progress()))
    }

    /// GET of a collection.
    pub(super) async fn list(&self, row: &Arc<Row>, call: &Call) -> Result<Reply, Status> {
        let options = call.info.list_options()?;
        options::check_list(&options, false)?;
        let selection = Selection::new(row, collection_namespace(row, call), None, &options)?;
        let (at, token) = options::list_at(&options)?;
        if !row.resource.is_stored() {
            let body = render::list(row, &[], &ListMeta::default(), call.format.shape)?;
            return Ok(Reply::Object { code: 200, body, warnings: Vec::new() });
        }
        let limit = usize::try_from(options.limit).ok().filter(|limit| *limit > 0);
        let start = token.as_ref().map(|page| page.start.as_str());
        let page = match self.page(row, &selection, &at, start, limit).await {
            Err(status) if status.code == 410 => {
                return Err(token.as_ref().map_or(status, Continue::expired));
            }
            other => other?,
        };
        let inconsistent = token.is_some_and(|page| page.revision.is_none());
        let next = page.objects.last().filter(|_| page.more).map(|last| {
            let revision = (!inconsistent).then_some(page.revision);
            Continue::after(revision, last.tail()).encode()
        });
        let meta = ListMeta { revision: page.revision, continue_token: next, remaining: page.remaining };
        let body = render::list(row, &page.objects, &meta, call.format.shape)?;
        Ok(Reply::Object { code: 200, body, warnings: Vec::new() })
    }

    /// Everything that a selection takes, at the newest state.
    pub(super) async fn select(
        &self,
        row: &Row,
        selection: &Selection,
    ) -> Result<(Vec<Arc<Object>>, i64), Status> {
        let page = self.page(row, selection, &At::Newest, None, None).await?;
        Ok((page.objects, page.revision))
    }

    async fn page(
        &self,
        row: &Row,
        selection: &Selection,
        at: &At,
        start: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Page, Status> {
        let cache = self.0.caches.kind(&row.stored).await.map_err(|e| failure::cache(&e))?;
        let at_least = self.0.caches.progress();
        match *at {
            At::Any => Ok(cached_page(&cache, selection, start, limit, at_least)),
            At::Newest => {
                if !self.is_fresh(&cache).await? {
                    return self.stored_page(&cache, row, selection, 0, start, limit).await;
                }
                Ok(cached_page(&cache, selection, start, limit, self.0.caches.progress()))
            }
            At::NotOlderThan(version) => {
                self.require(&cache, version).await?;
                Ok(cached_page(&cache, selection, start, limit, self.0.caches.progress()))
            }
            At::Exact(version) => {
                self.require(&cache, version).await?;
                // Nothing of the kind changed since: today's state is that state.
                if cache.changed_at() <= version {
                    let page = cached_page(&cache, selection, start, limit, version);
                    if page.revision == version {
                        return Ok(page);
                    }
                }
                self.stored_page(&cache, row, selection, version, start, limit).await
            }
        }
    }

    /// A page of the state at `revision` (0: the newest), read from the store.
    async fn stored_page(
        &self,
        cache: &KindCache,
        row: &Row,
        selection: &Selection,
        revision: i64,
        start: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Page, Status> {
        let Some((mut from, end)) = store_range(row, &selection.place, start) else {
            return Ok(Page { objects: Vec::new(), revision, more: false, remaining: None });
        };
        let wanted = limit.unwrap_or(usize::MAX);
        let mut page = Page { objects: Vec::new(), revision, more: false, remaining: None };
        loop {
            let mut request = RangeRequest::new(KeyRange::Range(from, end.clone()));
            request.revision = page.revision;
            request.limit = if selection.is_everything() {
                wanted.saturating_add(1).min(PAST_PAGE_KEYS)
            } else {
                PAST_PAGE_KEYS
            };
            let answer = self.0.kv.range(request).await.map_err(|error| match error {
                Error::FutureRevision => failure::too_large_version(revision, self.0.caches.progress()),
                other => failure::store(&other),
            })?;
            if page.revision == 0 {
                page.revision = answer.revision;
            }
            let total = page.objects.len() + usize::try_from(answer.count).unwrap_or_default();
            let next = answer.kvs.last().map(|kv| after(&kv.key));
            for object in answer.kvs.iter().filter_map(|kv| cache.decode(kv)) {
                if !selection.matches(&object) {
                    continue;
                }
                if page.objects.len() == wanted {
                    page.more = true;
                    page.remaining = selection.is_everything().then(|| total.saturating_sub(wanted));
                    return Ok(page);
                }
                page.objects.push(Arc::new(object));
            }
            match next.filter(|_| answer.more) {
                Some(next) => from = next,
                None => return Ok(page),
            }
        }
    }
}

fn cached_page(
    cache: &KindCache,
    selection: &Selection,
    start: Option<&str>,
    limit: Option<usize>,
    at_least: i64,
) -> Page {
    // `at_least` was read before the snapshot, so the snapshot includes all of it.
    let snapshot = cache.snapshot(&selection.place, start);
    let revision = snapshot.changed_at.max(at_least);
    let wanted = limit.unwrap_or(usize::MAX);
    if selection.is_everything() {
        let mut objects = snapshot.objects;
        let remaining = objects.len().saturating_sub(wanted);
        objects.truncate(wanted);
        return Page { objects, revision, more: remaining > 0, remaining: Some(remaining) };
    }
    let mut matching = snapshot.objects.into_iter().filter(|object| selection.matches(object));
    let objects: Vec<Arc<Object>> = matching.by_ref().take(wanted).collect();
    let more = matching.next().is_some();
    Page { objects, revision, more, remaining: None }
}

/// The keys of a place from a tail on; `None` when none can be there.
fn store_range(row: &Row, place: &Place, start: Option<&str>) -> Option<(Bytes, Bytes)> {
    let prefix = match place {
        Place::All => row.stored.prefix().to_owned(),
        Place::Namespace(namespace) => format!("{}{namespace}/", row.stored.prefix()),
        Place::Object(tail) => {
            let key = Bytes::from(format!("{}{tail}", row.stored.prefix()));
            let reached = start.is_none_or(|start| start <= tail.as_str());
            return reached.then(|| (key.clone(), after(&key)));
        }
    };
    let KeyRange::Range(first, end) = KeyRange::prefix(prefix) else { return None };
    let start = start.map(|start| Bytes::from(format!("{}{start}", row.stored.prefix())));
    let from = start.filter(|start| *start > first).unwrap_or(first);
    (from < end).then_some((from, end))
}

/// The key right after `key`.
fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// The namespace that a call on a collection names; `None` for all, and for cluster-scoped
/// kinds.
pub(super) fn collection_namespace<'a>(row: &Row, call: &'a Call) -> Option<&'a str> {
    if row.resource.is_namespaced() { call.info.namespace.as_deref() } else { None }
}

/// The key of the object that a call names.
///
/// # Errors
/// 404 for paths that do not fit the kind's scope, 400 for names that cannot be.
pub(super) fn target(row: &Row, call: &Call) -> Result<ObjectKey, Status> {
    let name = call.info.name.as_deref().ok_or_else(failure::resource_not_found)?;
    let namespace = match (row.resource.is_namespaced(), call.info.namespace.as_deref()) {
        (true, Some(namespace)) => namespace,
        (false, None) => "",
        (false, Some(_)) if row.is("", "namespaces") => "",
        _ => return Err(failure::resource_not_found()),
    };
    key_of(row, namespace, name)
}

/// The key of an object of a row.
///
/// # Errors
/// 404 for names that no object can have, since they would leave the kind's place in the
/// store.
pub(super) fn key_of(row: &Row, namespace: &str, name: &str) -> Result<ObjectKey, Status> {
    let unusable = |text: &str| text.contains(['/', '\0', '%']) || matches!(text, "." | "..");
    if name.is_empty() || unusable(name) || unusable(namespace) {
        return Err(failure::object_not_found(row, name));
    }
    Ok(ObjectKey::new(&row.stored.group, &row.stored.plural, namespace, name))
}
