//! The scheduler's decisions: which pod is next, which node it goes to, and why not. Pure:
//! the time and random numbers are arguments, and the API is another's to talk to.
//!
//! - [`cluster`] holds the nodes and what their pods take, kept up to date by increments;
//! - [`queue`] holds the pods that wait, and knows when to look at them again;
//! - [`schedule`] finds a node for one pod through the plugins of a [`framework`];
//! - [`plugins`] are the rules, one file each, under the names Kubernetes gives them;
//! - [`condition`] says the outcome as the pod's `PodScheduled` condition.

pub mod cluster;
pub mod condition;
pub mod framework;
pub mod node_info;
pub mod node_selector;
pub mod plugins;
pub mod pod_info;
pub mod queue;
pub mod resources;
pub mod schedule;
#[cfg(test)]
pub(crate) mod testing;
