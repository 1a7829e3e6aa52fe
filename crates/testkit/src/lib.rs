//! A whole Coracle cluster inside a test's process, for our own tests and for users' CI.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let cluster = coracle_testkit::Cluster::start().agents(2).await?;
//! let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::default_namespaced(cluster.client());
//! cluster.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n").await?;
//! # drop(pods);
//! cluster.stop().await;
//! # Ok(()) }
//! ```
//!
//! Clusters of one machine do not collide: every one has ports of its own and node addresses
//! of its own in 127.0.0.0/8.

mod cluster;
mod skip;
mod wait;

pub use cluster::{Builder, Cluster};
pub use skip::{python_client, skip, tool};
pub use wait::{eventually, pod_is_ready};
