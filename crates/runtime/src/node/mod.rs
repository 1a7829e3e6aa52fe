//! The node's sandboxes and containers: who they are, what state they are in, and the
//! operations that CRI has on them. Their state is on disk before an operation returns.

mod container;
mod containers;
mod events;
mod restore;
mod sandbox;
mod sandboxes;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_cri::runtime::v1::PodSandboxMetadata;
use coracle_images::Store;
use coracle_network::Fabric;
use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};

pub(crate) use container::{Container, Phase};
pub(crate) use events::Events;
pub(crate) use sandbox::Sandbox;

use crate::host::Host;
use crate::program::ProgramError;
use crate::record::{Records, StateError};
use crate::spec::SpecError;

/// Sandboxes, and containers, that a node may have at a time, exited ones included. The
/// next one is refused.
const OBJECTS_MAX: usize = 50_000;

/// Everything on a node.
pub(crate) struct Node {
    pub(crate) host: Arc<Host>,
    pub(crate) images: Store,
    pub(crate) fabric: Fabric,
    pub(crate) records: Records,
    pub(crate) events: Events,
    has_pod_cidr: AtomicBool,
    sandboxes: RwLock<BTreeMap<String, Arc<Sandbox>>>,
    /// The id of the sandbox that has, or is about to have, a name.
    names: Mutex<HashMap<String, String>>,
    containers: RwLock<BTreeMap<String, Arc<Container>>>,
}

/// An operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("{kind} {id:?} does not exist")]
    NotFound { kind: &'static str, id: String },
    #[error("{kind} {id:?} names more than one: give more of its id")]
    Ambiguous { kind: &'static str, id: String },
    #[error("{kind} {name:?} exists already, with id {id}")]
    Exists { kind: &'static str, name: String, id: String },
    #[error("{0}")]
    WrongState(String),
    #[error("image {0:?} is not on this node: load it with `coracle image load`")]
    NoImage(String),
    #[error("the node has {OBJECTS_MAX} of these already")]
    TooMany,
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("image {image:?}: {source}")]
    Program { image: String, source: ProgramError },
    #[error(transparent)]
    Network(#[from] coracle_network::Error),
    #[error("cannot write the container's log: {0}")]
    Log(std::io::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Node {
    pub(crate) fn new(host: Arc<Host>, images: Store, fabric: Fabric, records: Records) -> Arc<Self> {
        let node = Arc::new(Self {
            host,
            images,
            fabric,
            records,
            events: Events::new(),
            has_pod_cidr: AtomicBool::new(false),
            sandboxes: RwLock::default(),
            names: Mutex::default(),
            containers: RwLock::default(),
        });
        node.restore();
        node
    }

    pub(crate) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.sandboxes.read().values().cloned().collect()
    }

    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.containers.read().values().cloned().collect()
    }

    /// Gives the fabric the range that pods' addresses come from.
    ///
    /// # Errors
    /// When it cannot be kept for the next start.
    pub(crate) fn set_pod_cidr(&self, cidr: IpNet) -> Result<(), StateError> {
        self.records.put_pod_cidr(&cidr.to_string())?;
        self.fabric.set_pod_cidr(cidr);
        self.has_pod_cidr.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether sandboxes can join the network.
    pub(crate) fn network_is_ready(&self) -> bool {
        self.has_pod_cidr.load(Ordering::Acquire)
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, NodeError> {
        find("pod sandbox", &self.sandboxes.read(), id)
    }

    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, NodeError> {
        find("container", &self.containers.read(), id)
    }
}

/// By id, or by the beginning of one if only one begins so.
fn find<T>(kind: &'static str, all: &BTreeMap<String, Arc<T>>, id: &str) -> Result<Arc<T>, NodeError> {
    let not_found = || NodeError::NotFound { kind, id: id.to_owned() };
    if id.is_empty() {
        return Err(not_found());
    }
    let mut candidates = all.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    let (key, first) = candidates.next().ok_or_else(not_found)?;
    if key != id && candidates.next().is_some() {
        return Err(NodeError::Ambiguous { kind, id: id.to_owned() });
    }
    Ok(Arc::clone(first))
}

/// What makes a sandbox the only one of its kind.
fn sandbox_name(metadata: &PodSandboxMetadata) -> String {
    let PodSandboxMetadata { name, uid, namespace, attempt } = metadata;
    format!("{namespace}/{name}/{uid}/{attempt}")
}

/// 64 hex digits, as other runtimes' ids.
fn new_id() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
