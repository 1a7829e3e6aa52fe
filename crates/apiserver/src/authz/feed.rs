//! Keeps the index of roles and bindings in step with the registry: one watch per kind.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::meta;
use coracle_plan::rbac::{GROUP, Index, binding_of, rules_of};
use futures::StreamExt;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::internal::{self, At};
use crate::registry::{Frames, Registry};

/// Pause before a watch that ended is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);
/// Marks the bookmark after everything that was there when the watch began (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The kinds that are followed.
const KINDS: [Kind; 4] = [
    Kind { plural: "clusterroles", binding: false },
    Kind { plural: "clusterrolebindings", binding: true },
    Kind { plural: "roles", binding: false },
    Kind { plural: "rolebindings", binding: true },
];

#[derive(Clone, Copy)]
struct Kind {
    plural: &'static str,
    binding: bool,
}

/// The running watches.
pub(crate) struct Feed {
    synced: watch::Receiver<usize>,
}

#[derive(Deserialize)]
struct WatchEvent {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// Namespace (empty for cluster-wide kinds) and name.
type Key = (String, String);

impl Feed {
    pub(super) fn start(
        index: &Arc<RwLock<Index>>,
        registry: &Registry,
        shutdown: &CancellationToken,
    ) -> Self {
        let (sender, synced) = watch::channel(0);
        for kind in KINDS {
            let follower = Follower {
                kind,
                index: index.clone(),
                registry: registry.clone(),
                synced: sender.clone(),
                known: HashSet::new(),
                complete: false,
            };
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = follower.run() => {}
                }
            });
        }
        Self { synced }
    }

    /// Waits until everything that was there at the start is known, or the watches ended.
    pub(crate) async fn synced(mut self) {
        // An error means that the followers are gone, which is the end of the server.
        let _ = self.synced.wait_for(|complete| *complete == KINDS.len()).await;
    }
}

struct Follower {
    kind: Kind,
    index: Arc<RwLock<Index>>,
    registry: Registry,
    synced: watch::Sender<usize>,
    /// What the index has of this kind.
    known: HashSet<Key>,
    /// Whether the first watch has told everything.
    complete: bool,
}

impl Follower {
    async fn run(mut self) {
        loop {
            match internal::watch(&self.registry, At::v1(GROUP, self.kind.plural)).await {
                Ok(frames) => self.read(frames).await,
                Err(status) => tracing::warn!(kind = self.kind.plural, %status, "watching roles failed"),
            }
            tokio::time::sleep(REOPEN_PAUSE).await;
        }
    }

    async fn read(&mut self, mut frames: Frames) {
        // Until the bookmark, what this watch has told; then what is missing was deleted
        // while nobody watched.
        let mut initial = Some(HashSet::new());
        while let Some(frame) = frames.next().await {
            // A frame holds one event or several.
            for event in serde_json::Deserializer::from_slice(&frame).into_iter::<WatchEvent>() {
                match event {
                    Ok(event) if self.take(&event, &mut initial) => {}
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(kind = self.kind.plural, %error, "a watch event could not be read");
                        return;
                    }
                }
            }
        }
    }

    /// Follows one event; false when it is the watch's last.
    fn take(&mut self, event: &WatchEvent, initial: &mut Option<HashSet<Key>>) -> bool {
        let key: Key = (meta::namespace(&event.object).to_owned(), meta::name(&event.object).to_owned());
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => {
                self.set(&key, &event.object);
                if let Some(initial) = initial {
                    initial.insert(key.clone());
                }
                self.known.insert(key);
            }
            "DELETED" => {
                self.remove(&key);
                self.known.remove(&key);
            }
            "BOOKMARK" => {
                if meta::annotation(&event.object, INITIAL_EVENTS_END) == Some("true")
                    && let Some(initial) = initial.take()
                {
                    self.finish_initial(&initial);
                }
            }
            _ => return false,
        }
        true
    }

    fn finish_initial(&mut self, told: &HashSet<Key>) {
        let stale: Vec<Key> = self.known.difference(told).cloned().collect();
        for key in stale {
            self.remove(&key);
            self.known.remove(&key);
        }
        if !self.complete {
            self.complete = true;
            self.synced.send_modify(|complete| *complete += 1);
        }
    }

    fn set(&self, (namespace, name): &Key, object: &Value) {
        let namespace = Some(namespace.as_str()).filter(|n| !n.is_empty());
        if self.kind.binding {
            let (subjects, role) = binding_of(object);
            self.index.write().set_binding(namespace, name, &subjects, &role);
        } else {
            let rules = rules_of(object);
            self.index.write().set_role(namespace, name, rules);
        }
    }

    fn remove(&self, (namespace, name): &Key) {
        let namespace = Some(namespace.as_str()).filter(|n| !n.is_empty());
        if self.kind.binding {
            self.index.write().remove_binding(namespace, name);
        } else {
            self.index.write().remove_role(namespace, name);
        }
    }
}
