//! The controller manager: every controller's watches and keys. What each decides is in
//! `coracle_plan::controllers`; the loop that they all run in is `coracle_client::driver`.
//!
//! One file per controller says which informers it needs and how a change of one becomes a key.
//! Architecture invariant: no decision is made here, and nothing here knows the API server's code.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod deployment;
mod discovery;
mod endpointslice;
mod garbagecollector;
mod job;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod owners;
mod replicaset;
mod serviceaccount;

use std::sync::Arc;

use coracle_client::Informers;
use coracle_client::driver::{Controller, Driver, Metrics};
use coracle_plan::controllers::nodeipam::Range;
use ipnet::Ipv4Net;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the controllers need to know about the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// The range of all pods' addresses.
    pub cluster_cidr: Ipv4Net,
    /// The prefix length of one node's share of it.
    pub node_mask: u8,
    /// The certificate that pods know the API server by, in PEM; empty to publish none.
    pub root_ca_pem: String,
}

/// Why the controllers could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node mask does not divide the cluster's range.
    #[error("nodes cannot have /{mask} ranges of {cluster}: the mask must be between the range's own and 32")]
    NodeMask {
        /// The cluster's range.
        cluster: Ipv4Net,
        /// The mask asked for.
        mask: u8,
    },
    /// A controller panicked; the others were stopped.
    #[error("a controller died")]
    Died(#[source] tokio::task::JoinError),
}

/// Counters by controller name.
type Registry = Mutex<Vec<(&'static str, Arc<Metrics>)>>;

/// A view of running controllers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Handle {
    metrics: Arc<Registry>,
}

impl Handle {
    /// Appends every controller's counters in Prometheus' text format.
    pub fn render_metrics(&self, into: &mut String) {
        for (name, metrics) in self.metrics.lock().iter() {
            metrics.render(name, into);
        }
    }
}

/// All controllers.
pub struct Service {
    config: Config,
    client: kube::Client,
    informers: Informers,
    handle: Handle,
}

impl Service {
    /// Nothing is watched before [`Self::run`], which waits for leadership elsewhere.
    #[must_use]
    pub fn new(config: Config, client: kube::Client, informers: Informers) -> Self {
        Service { config, client, informers, handle: Handle::default() }
    }

    /// A view that stays valid while the controllers run.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs every controller until shutdown.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or a controller panicked.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Config { cluster_cidr, node_mask, root_ca_pem } = self.config;
        if node_mask < cluster_cidr.prefix_len() || node_mask > 32 {
            return Err(Error::NodeMask { cluster: cluster_cidr, mask: node_mask });
        }
        let range = Range { cluster: cluster_cidr, node_mask };
        // Ends all of them when one has died.
        let stop = shutdown.child_token();
        let mut group = Group { tasks: JoinSet::new(), stop, handle: self.handle };
        let (client, informers) = (&self.client, &self.informers);
        group.start("namespace-controller", namespace::driver(client, informers));
        let accounts = serviceaccount::driver(client, informers, root_ca_pem.into());
        group.start("serviceaccount-controller", accounts);
        group.start("node-ipam-controller", nodeipam::driver(client, informers, range));
        group.start("node-lifecycle-controller", nodelifecycle::driver(client, informers));
        group.start("deployment-controller", deployment::driver(client, informers));
        group.start("replicaset-controller", replicaset::driver(client, informers));
        group.start("job-controller", job::driver(client, informers));
        group.start("endpointslice-controller", endpointslice::driver(client, informers));
        group.tasks.spawn(garbagecollector::run(self.client.clone(), group.stop.clone()));
        group.join().await
    }
}

struct Group {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    handle: Handle,
}

impl Group {
    fn start<C: Controller>(&mut self, name: &'static str, driver: Driver<C>) {
        self.handle.metrics.lock().push((name, driver.metrics()));
        self.tasks.spawn(driver.run(self.stop.clone()));
    }

    async fn join(mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                self.stop.cancel();
                outcome = Err(Error::Died(error));
            }
        }
        outcome
    }
}
