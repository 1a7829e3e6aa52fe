//! The generic registry: what create, get, list, watch, update, patch and delete mean, once
//! for every kind of the resource table and every established custom resource.
//!
//! A [`Registry`] owns the watch caches, the admission plugins and the address and port
//! allocators, and is the only code that writes below `/coracle/registry/` in the store.
//! It knows nothing of HTTP: it answers a [`Call`] with a [`Reply`] or a `Status`, and it
//! trusts its caller to have authenticated and authorised that call.

mod allocate;
mod apply;
mod bodies;
mod create;
mod csr;
mod custom;
mod definition;
mod delete;
mod envelope;
mod event_ttl;
mod failure;
mod fields;
mod index;
mod key;
mod metadata;
mod namespaces;
mod options;
mod paging;
mod patch;
mod pods;
mod read;
mod render;
mod reply;
mod scale;
mod selection;
mod services;
mod storage;
mod update;
mod watch;

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api::resource::Subresource;
use coracle_api::status::Status;
use coracle_store::Kv;
use ipnet::Ipv4Net;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::cache::{Caches, Object, Place};
use crate::request::{Call, Verb};
use options::At;
use update::Part;

pub(crate) use envelope::Stored;
pub(crate) use index::StoredKind;
pub use index::{ResourceIndex, Row};
pub(crate) use key::split as split_key;
pub(crate) use metadata::random_suffix;
pub use reply::{Frames, Pieces, Reply};

/// What the registry must know about the cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where cluster IPs come from.
    pub service_cidr: Ipv4Net,
    /// Where node ports come from.
    pub node_ports: RangeInclusive<u16>,
    /// How long an Event is kept, in seconds.
    pub event_ttl_s: i64,
    /// Bytes of past events that one kind's watch cache keeps for watches that resume.
    pub history_bytes_per_kind: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_cidr: Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 0, 0, 0), 16),
            node_ports: 30_000..=32_767,
            event_ttl_s: 3600,
            history_bytes_per_kind: 4 * 1024 * 1024,
        }
    }
}

/// Why the registry could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store did not answer.
    #[error("reading {what} from the store failed")]
    Store {
        /// What was read.
        what: &'static str,
        /// The store's answer.
        #[source]
        source: coracle_store::Error,
    },
    /// A stored custom resource definition or Service could not be read.
    #[error("a stored {what} could not be read: {why}")]
    Object {
        /// Its resource.
        what: &'static str,
        /// What was wrong.
        why: String,
    },
}

/// The registry; clones share everything.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

/// The state behind every clone of a [`Registry`].
struct Inner {
    kv: Arc<dyn Kv>,
    index: ArcSwap<ResourceIndex>,
    caches: Caches,
    admission: Admission,
    services: services::Allocators,
    event_leases: event_ttl::EventLeases,
    crd_writes: tokio::sync::Mutex<()>,
}

impl Registry {
    /// A registry over `kv` that serves the built-in kinds. Nothing is read yet: call
    /// [`Registry::start`].
    #[must_use]
    pub fn new(kv: Arc<dyn Kv>, config: Config) -> Self {
        let index = ArcSwap::from_pointee(ResourceIndex::builtin());
        let caches = Caches::new(kv.clone(), config.history_bytes_per_kind);
        let services = services::Allocators::new(config.service_cidr, config.node_ports);
        let event_leases = event_ttl::EventLeases::new(config.event_ttl_s);
        Self(Arc::new(Inner {
            kv,
            index,
            caches,
            admission: Admission::standard(),
            services,
            event_leases,
            crd_writes: tokio::sync::Mutex::new(()),
        }))
    }

    /// Starts the feed of the watch caches, loads the custom resource definitions and
    /// rebuilds the allocators. When it returns the registry serves; its tasks end with
    /// `shutdown`.
    ///
    /// # Errors
    /// [`StartError`] when the store does not answer or holds what cannot be read.
    pub async fn start(&self, shutdown: CancellationToken) -> Result<(), StartError> {
        self.0
            .caches
            .start(shutdown)
            .await
            .map_err(|source| StartError::Store { what: "the start of the watch", source })?;
        self.load_custom_resources().await?;
        self.load_services().await
    }

    /// What is served: built-in kinds and established custom resources. A snapshot; ask
    /// again for a later one.
    #[must_use]
    pub fn resources(&self) -> Arc<ResourceIndex> {
        self.0.index.load_full()
    }

    /// Answers one call on a resource: create, get, list, watch, update, patch, delete or
    /// deletecollection, of an object or one of its subresources.
    ///
    /// # Errors
    /// A `Status` with kube-apiserver's code, reason and wording.
    pub async fn handle(&self, call: Call) -> Result<Reply, Status> {
        let index = self.resources();
        let info = &call.info;
        let row =
            index.find(&info.group, &info.version, &info.plural).ok_or_else(failure::resource_not_found)?;
        match info.subresource.as_deref() {
            None => self.handle_object(row, &call).await,
            Some(part) => {
                let part = row.resource.subresource(part).ok_or_else(failure::resource_not_found)?;
                if !part.verbs.iter().any(|verb| verb == call.info.verb.as_str()) {
                    return Err(Status::method_unknown());
                }
                self.handle_part(row, part, &call).await
            }
        }
    }

    async fn handle_object(&self, row: &Arc<Row>, call: &Call) -> Result<Reply, Status> {
        if !row.resource.has_verb(call.info.verb.as_str()) {
            return Err(Status::method_unknown());
        }
        match call.info.verb {
            Verb::List => self.list(row, call).await,
            Verb::Create if row.is("", "bindings") => {
                let index = self.resources();
                let pods = index.find("", "v1", "pods").ok_or_else(failure::resource_not_found)?;
                let part = pods.resource.subresource("binding").ok_or_else(failure::resource_not_found)?;
                self.bind(row, part, call).await
            }
            // Reviews are answered before they get here; nothing else is not stored.
            _ if !row.resource.is_stored() => Err(failure::resource_not_found()),
            Verb::Get => self.get(row, call).await,
            Verb::Watch => self.watch(row, call).await,
            Verb::Create => self.create(row, call).await,
            Verb::Update => self.update(row, call, Part::Object).await,
            Verb::Patch => self.patch(row, call, Part::Object).await,
            Verb::Delete => self.delete(row, call).await,
            Verb::DeleteCollection => self.delete_collection(row, call).await,
            _ => Err(Status::method_unknown()),
        }
    }

    async fn handle_part(&self, row: &Arc<Row>, part: &Subresource, call: &Call) -> Result<Reply, Status> {
        let scope = match &*part.name {
            "scale" => return self.scale(row, call).await,
            "binding" if row.is("", "pods") => return self.bind(row, part, call).await,
            "eviction" if row.is("", "pods") => return self.evict(row, part, call).await,
            "status" => Part::Status,
            "approval" => Part::Approval,
            "finalize" => Part::Finalize,
            "ephemeralcontainers" | "resize" if call.info.verb == Verb::Get => Part::Object,
            "ephemeralcontainers" | "resize" => return Err(not_offered(&part.name)),
            // Parts that stream or act (log, exec, proxy) are not the registry's.
            _ => return Err(failure::resource_not_found()),
        };
        match call.info.verb {
            Verb::Get => self.get(row, call).await,
            Verb::Update => self.update(row, call, scope).await,
            Verb::Patch => self.patch(row, call, scope).await,
            _ => Err(Status::method_unknown()),
        }
    }

    /// One object, for decisions about others: from the cache, or from the newest state when
    /// the cache does not have it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn lookup(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        let index = self.resources();
        let Some(row) = index.find_stored(group, plural) else { return Ok(None) };
        let Ok(key) = read::key_of(row, namespace, name) else { return Ok(None) };
        match self.read(row, &key, At::Any).await? {
            Some(object) => Ok(Some(object)),
            None => self.read(row, &key, At::Newest).await,
        }
    }

    /// Every object of a kind that the cache knows, for decisions about others.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn everything(&self, group: &str, plural: &str) -> Result<Vec<Arc<Object>>, Status> {
        let index = self.resources();
        let Some(row) = index.find_stored(group, plural) else { return Ok(Vec::new()) };
        let cache = self.0.caches.kind(&row.stored).await.map_err(|e| failure::cache(&e))?;
        Ok(cache.snapshot(&Place::All, None).objects)
    }
}

/// 501 for a part of pods that later versions will have.
fn not_offered(part: &str) -> Status {
    Status::failure(
        501,
        "NotImplemented",
        format!("changing pods through {part} is not offered by this server"),
    )
}
