//! Who exists and who depends on whom.
//!
//! Of most objects (neither owned nor held by one of the collector's finalizers) only the uid is
//! kept, so that knowing a whole cluster costs little memory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{FOREGROUND, ORPHAN};
use crate::controllers::action::Kind;

/// An object that has owners, or one of the collector's finalizers.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Arc<Kind>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version when last seen.
    pub resource_version: Option<String>,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// Whether it waits for its dependents' deletion.
    pub foreground: bool,
    /// Whether its dependents are to be orphaned.
    pub orphan: bool,
}

impl Object {
    /// The interesting part of an object; `None` if it has neither owners nor finalizers of ours.
    fn of(kind: &Arc<Kind>, meta: &ObjectMeta) -> Option<Self> {
        let owners = meta.owner_references.clone().unwrap_or_default();
        let finalizers = meta.finalizers.clone().unwrap_or_default();
        let foreground = finalizers.iter().any(|one| one == FOREGROUND);
        let orphan = finalizers.iter().any(|one| one == ORPHAN);
        if owners.is_empty() && !foreground && !orphan {
            return None;
        }
        Some(Object {
            kind: Arc::clone(kind),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone(),
            owners,
            finalizers,
            deleting: meta.deletion_timestamp.is_some(),
            foreground,
            orphan,
        })
    }

    fn waits(&self) -> bool {
        self.deleting && (self.foreground || self.orphan)
    }
}

/// The graph of ownership. See the module.
#[derive(Debug, Default)]
pub struct Graph {
    objects: HashMap<String, Option<Box<Object>>>,
    /// The uids of dependents by their owner's, whether or not the owner is known.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Takes in an object as it is now; returns the uids to be looked at because of it.
    pub fn observe(&mut self, kind: &Arc<Kind>, meta: &ObjectMeta) -> Vec<String> {
        let Some(uid) = meta.uid.clone() else { return Vec::new() };
        let new = Object::of(kind, meta).map(Box::new);
        let old = self.objects.insert(uid.clone(), new.clone()).flatten();
        let owners_changed = old.as_ref().map(|old| &old.owners) != new.as_ref().map(|new| &new.owners);
        let mut look = Vec::new();
        if owners_changed {
            let owners = old.iter().flat_map(|old| &old.owners);
            for owner in owners {
                self.unlink(&owner.uid, &uid);
                look.push(owner.uid.clone());
            }
            for owner in new.iter().flat_map(|new| &new.owners) {
                self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            }
            look.retain(|owner| self.object(owner).is_some_and(Object::waits));
            if new.as_ref().is_some_and(|new| self.is_doubtful(new)) {
                look.push(uid.clone());
            }
        }
        let waits = new.as_ref().is_some_and(|new| new.waits());
        if waits && !old.as_ref().is_some_and(|old| old.waits()) {
            look.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        if waits {
            look.push(uid);
        }
        look
    }

    /// Takes in that an object is gone; returns the uids to be looked at because of it.
    pub fn forget(&mut self, uid: &str) -> Vec<String> {
        let old = self.objects.remove(uid).flatten();
        let mut look: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in old.iter().flat_map(|old| &old.owners) {
            self.unlink(&owner.uid, uid);
            if self.object(&owner.uid).is_some_and(Object::waits) {
                look.push(owner.uid.clone());
            }
        }
        look
    }

    /// Whether an object with this uid has been seen and not been forgotten.
    #[must_use]
    pub fn exists(&self, uid: &str) -> bool {
        self.objects.contains_key(uid)
    }

    /// How many objects are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The owners of an object that the graph does not know: they have to be asked for.
    #[must_use]
    pub fn unknown_owners(&self, uid: &str, absent: &HashSet<String>) -> Vec<OwnerReference> {
        let Some(object) = self.object(uid).filter(|object| !object.deleting) else {
            return Vec::new();
        };
        let owners = object.owners.iter();
        owners.filter(|owner| !self.exists(&owner.uid) && !absent.contains(&owner.uid)).cloned().collect()
    }

    /// What is known of an object with owners or finalizers.
    #[must_use]
    pub fn object(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)?.as_deref()
    }

    /// Whether any object names this one as an owner.
    #[must_use]
    pub fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.contains_key(uid)
    }

    /// The objects that name this one as an owner, ordered by uid.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Object> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.object(uid))
    }

    /// Whether one of an object's owners is unknown or about to go.
    fn is_doubtful(&self, object: &Object) -> bool {
        object
            .owners
            .iter()
            .any(|owner| !self.exists(&owner.uid) || self.object(&owner.uid).is_some_and(Object::waits))
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}
