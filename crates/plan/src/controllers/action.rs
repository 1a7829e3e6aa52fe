//! What a controller decided, as data: the vocabulary that every controller's `plan` answers in.
//!
//! A [`Plan`] leaves execution no meaningful choices: actions run in order, the first failure
//! ends the plan, and each write carries the preconditions (resourceVersion, uid) under which it
//! was decided, so a plan made from stale facts is refused by the API instead of doing harm.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

/// A decision: what to do now, when to look again, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// When to plan again even if nothing changes.
    pub requeue_at: Option<Timestamp>,
    /// Why it acts or waits, for logs and tests.
    pub report: Vec<String>,
}

impl Plan {
    /// Adds a write.
    pub fn write(&mut self, write: Write) {
        self.actions.push(Action::Write(write));
    }

    /// Adds an event about an object.
    pub fn event(
        &mut self,
        regarding: ObjectReference,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let message = message.into();
        self.actions.push(Action::Event { regarding, severity, reason, message });
    }

    /// Asks to plan again at `at` or before.
    pub fn requeue(&mut self, at: Timestamp) {
        self.requeue_at = Some(self.requeue_at.map_or(at, |already| already.min(at)));
    }

    /// Adds a line to the report.
    pub fn note(&mut self, why: impl Into<String>) {
        self.report.push(why.into());
    }

    /// Every write, those of batches included, in order.
    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.actions.iter().flat_map(|action| match action {
            Action::Write(write) => std::slice::from_ref(write),
            Action::Batch(writes) => writes.as_slice(),
            Action::Event { .. } => &[],
        })
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// One write.
    Write(Write),
    /// Many like writes, started slowly: one, then two, then four at once …, ended by the first
    /// failure, so that a quota that refuses one refuses few.
    Batch(Vec<Write>),
    /// Tell the user.
    Event {
        /// About what.
        regarding: ObjectReference,
        /// Whether it calls for attention.
        severity: Severity,
        /// A word in CamelCase.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Expected.
    Normal,
    /// Something to look at.
    Warning,
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make `object` (which has a name or a generateName).
    Create {
        /// Its kind.
        kind: Kind,
        /// Its namespace.
        namespace: Option<String>,
        /// The whole object.
        object: Value,
        /// Events that tell of it.
        narration: Option<Box<Narration>>,
    },
    /// Replace an object by `object`, whose metadata holds the resourceVersion it was decided on.
    Update {
        /// Which.
        target: Target,
        /// The whole of it, or a subresource.
        part: Part,
        /// The new value.
        object: Value,
    },
    /// Change some fields. Preconditions, if any, are in the patch.
    Patch {
        /// Which.
        target: Target,
        /// The whole of it, or a subresource.
        part: Part,
        /// How.
        patch: Patch,
    },
    /// Delete an object if it still is the one that was seen.
    Delete {
        /// Which.
        target: Target,
        /// The uid it must have.
        uid: Option<String>,
        /// The resourceVersion it must have.
        resource_version: Option<String>,
        /// What becomes of what it owns.
        propagation: Option<Propagation>,
        /// Seconds of grace instead of the object's own.
        grace_s: Option<u32>,
        /// Events that tell of it.
        narration: Option<Box<Narration>>,
    },
    /// Ask for a pod to go, as far as disruption budgets allow.
    Evict {
        /// The pod.
        target: Target,
        /// The uid it must have.
        uid: Option<String>,
    },
}

/// A resource of the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    /// Such as `v1`.
    pub version: Cow<'static, str>,
    /// Such as `Pod`.
    pub kind: Cow<'static, str>,
    /// Such as `pods`.
    pub plural: Cow<'static, str>,
}

impl Kind {
    /// The kind of a typed object.
    #[must_use]
    pub fn of<K: k8s_openapi::Resource>() -> Self {
        Kind {
            group: Cow::Borrowed(K::GROUP),
            version: Cow::Borrowed(K::VERSION),
            kind: Cow::Borrowed(K::KIND),
            plural: Cow::Borrowed(K::URL_PATH_SEGMENT),
        }
    }

    /// `group/version`, or the version alone in the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// One object of the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Target {
    /// The address of a typed object.
    pub fn of<K: Typed>(object: &K) -> Self {
        let meta = object.metadata();
        Target {
            kind: Kind::of::<K>(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

/// What of an object a write addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object.
    Main,
    /// Its `status` subresource.
    Status,
    /// A namespace's `finalize` subresource.
    Finalize,
}

impl Part {
    /// The path segment of the subresource.
    #[must_use]
    pub fn subresource(self) -> Option<&'static str> {
        match self {
            Part::Main => None,
            Part::Status => Some("status"),
            Part::Finalize => Some("finalize"),
        }
    }
}

/// A patch and its form.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' strategic merge.
    Strategic(Value),
}

/// What a deletion does to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The owner goes at once, dependents later.
    Background,
    /// The owner stays until its blocking dependents are gone.
    Foreground,
    /// Dependents stay and lose the reference.
    Orphan,
}

/// Events told once a write has worked or failed; the object's name, or the error, is appended
/// to the text (a created object may only then have a name).
#[derive(Clone, Debug, PartialEq)]
pub struct Narration {
    /// About what.
    pub regarding: ObjectReference,
    /// Reason and beginning of the message on success.
    pub done: (&'static str, &'static str),
    /// Reason and beginning of the message on failure.
    pub failed: (&'static str, &'static str),
}

/// A typed Kubernetes object with the usual metadata.
pub trait Typed: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize {}

impl<K> Typed for K where K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize {}

impl Write {
    /// Makes a typed object.
    pub fn create<K: Typed>(object: &K) -> Self {
        Write::Create {
            kind: Kind::of::<K>(),
            namespace: object.metadata().namespace.clone(),
            object: value(object),
            narration: None,
        }
    }

    /// Replaces a typed object, at the resourceVersion it holds.
    pub fn update<K: Typed>(object: &K) -> Self {
        Write::update_part(object, Part::Main)
    }

    /// Replaces a typed object's status, at the resourceVersion it holds.
    pub fn update_status<K: Typed>(object: &K) -> Self {
        Write::update_part(object, Part::Status)
    }

    /// Replaces a part of a typed object, at the resourceVersion it holds.
    pub fn update_part<K: Typed>(object: &K, part: Part) -> Self {
        Write::Update { target: Target::of(object), part, object: value(object) }
    }

    /// Merges `patch` into a typed object (not its status), whatever version it has.
    pub fn merge<K: Typed>(object: &K, patch: Value) -> Self {
        Write::Patch { target: Target::of(object), part: Part::Main, patch: Patch::Merge(patch) }
    }

    /// Deletes a typed object if its uid is still the same; dependents go in the background.
    pub fn delete<K: Typed>(object: &K) -> Self {
        Write::Delete {
            target: Target::of(object),
            uid: object.metadata().uid.clone(),
            resource_version: None,
            propagation: Some(Propagation::Background),
            grace_s: None,
            narration: None,
        }
    }

    /// The same creation or deletion, told by events.
    #[must_use]
    pub fn narrated(mut self, story: Narration) -> Self {
        if let Write::Create { narration, .. } | Write::Delete { narration, .. } = &mut self {
            *narration = Some(Box::new(story));
        }
        self
    }

    /// The verb, for metrics and logs.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Write::Create { .. } => "create",
            Write::Update { part: Part::Main, .. } => "update",
            Write::Update { .. } => "update-status",
            Write::Patch { .. } => "patch",
            Write::Delete { .. } => "delete",
            Write::Evict { .. } => "evict",
        }
    }

    /// The kind of the object written.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        match self {
            Write::Create { kind, .. } => kind,
            Write::Update { target, .. }
            | Write::Patch { target, .. }
            | Write::Delete { target, .. }
            | Write::Evict { target, .. } => &target.kind,
        }
    }

    /// The object's name; of one to be created, its name or generateName.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Write::Create { object, .. } => {
                let meta = &object["metadata"];
                let name = meta["name"].as_str().or_else(|| meta["generateName"].as_str());
                name.unwrap_or_default()
            }
            Write::Update { target, .. }
            | Write::Patch { target, .. }
            | Write::Delete { target, .. }
            | Write::Evict { target, .. } => &target.name,
        }
    }
}

/// A typed object as JSON. Kubernetes' types have string keys only, so this cannot fail; were it
/// to, the API would refuse the null.
fn value<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
