//! The kubelet's decisions: what to do next for a pod on a node, and what to say about it.
//!
//! [`plan`] is the pod state machine: from what the API server wants, what the container
//! runtime reports and what the kubelet remembers ([`PodView`]) it derives the next actions
//! and the pod's status. The other modules answer the smaller questions on the way:
//!
//! | module | question |
//! |---|---|
//! | [`backoff`] | when may something that failed be tried again? |
//! | [`image`] | is this image name valid, and must it be pulled? |
//! | [`env`] | what is a container's environment? |
//! | [`volume`] | which files does a projected volume hold? |
//! | [`probe`] | when does a probe run, and what do its results mean? |
//! | [`unsupported`] | what does a pod ask for in vain? |
//! | [`patch`] | which bytes bring the API server's status up to date? |
//!
//! Invariant: nothing here reads a clock, a file or a socket. Times are arguments, and a
//! plan made twice from one view is the same plan.

mod action;
pub mod backoff;
mod conditions;
mod decide;
pub mod env;
pub mod expand;
pub mod field;
pub mod image;
mod lifecycle;
pub mod patch;
pub mod probe;
pub mod quantity;
pub mod reason;
mod service_env;
pub mod sources;
mod status;
#[cfg(test)]
mod tests;
pub mod unsupported;
mod view;
pub mod volume;

pub use action::{Action, Plan, PlannedEvent, Stop};
pub use lifecycle::plan;
pub use view::{
    ApiDelete, ContainerKind, ContainerPhase, ContainerRecord, Memory, NodeFacts, PodView, Sandbox, Volumes,
    containers, field_path, full_name, spec_hash,
};
