//! What each controller decides: pure functions from a snapshot and the time to a [`action::Plan`].

pub mod action;
pub mod deployment;
pub mod endpointslice;
pub mod garbagecollector;
pub mod job;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod object;
pub mod replicaset;
pub mod serviceaccount;
#[cfg(test)]
pub(crate) mod testing;
