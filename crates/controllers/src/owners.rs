//! From an object to the one that manages it, and back.

use std::sync::Arc;

use coracle_client::driver::Queue;
use coracle_client::{Change, Informer, Object, ObjectKey};
use coracle_plan::controllers::object;

/// The index of objects by who manages them.
const BY_CONTROLLER: &str = "controller";

/// Makes [`managed_by`] and [`candidates`] fast for an informer.
pub(crate) fn index_by_controller<K: Object>(informer: &Informer<K>) {
    informer.add_index(BY_CONTROLLER, |object: &K| {
        let meta = object.meta();
        let bucket = match object::controller_of(meta) {
            Some(owner) => owner.uid.clone(),
            None => orphans_of(meta.namespace.as_deref().unwrap_or_default()),
        };
        vec![bucket]
    });
}

/// The bucket of a namespace's objects that nobody manages. No uid has a slash.
fn orphans_of(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

/// What the object with this uid manages.
pub(crate) fn managed_by<K: Object>(informer: &Informer<K>, uid: &str) -> Vec<Arc<K>> {
    informer.by_index(BY_CONTROLLER, uid)
}

/// What the object with this uid manages, and what nobody in its namespace does.
pub(crate) fn candidates<K: Object>(informer: &Informer<K>, uid: &str, namespace: &str) -> Vec<Arc<K>> {
    let mut all = managed_by(informer, uid);
    all.extend(informer.by_index(BY_CONTROLLER, &orphans_of(namespace)));
    all
}

/// Adds the keys of the managers, of one kind, that a changed object has and had.
pub(crate) fn add_managers<K: Object>(change: &Change<K>, kind: &str, queue: &Queue<ObjectKey>) {
    for object in change.old().into_iter().chain([change.object()]) {
        let meta = object.meta();
        if let Some(owner) = object::controller_of(meta).filter(|owner| owner.kind == kind) {
            let namespace = meta.namespace.clone().unwrap_or_default();
            queue.add(ObjectKey::new(namespace, owner.name.clone()));
        }
    }
}

/// Whether nobody manages the object (any more).
pub(crate) fn is_orphan<K: Object>(change: &Change<K>) -> bool {
    !matches!(change, Change::Deleted(_)) && object::controller_of(change.object().meta()).is_none()
}
