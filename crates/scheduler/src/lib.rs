//! kube-scheduler: gives every pod that waits for one a node.
//!
//! One task owns the queue and the picture of the cluster (`plan::scheduler`), keeps both up
//! to date from informers, and decides for one pod after the other; what it decides is
//! written by others beside it, many at a time, so that no decision waits for the API. It
//! sleeps until something happens: no timer runs while no pod waits.
//!
//! State owned: nothing that a restart could lose. A cluster runs one scheduler of a name at
//! a time; whoever starts several elects one of them first.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod binder;
mod driver;
mod reporter;

use coracle_client::Informers;
use coracle_client::events::Recorder;
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::driver::Scheduler;
use crate::reporter::Reporter;

/// The name of the scheduler that pods get where they do not ask for another.
pub const DEFAULT_NAME: &str = "default-scheduler";

/// What a scheduler needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Pods whose `schedulerName` is this are its own.
    pub scheduler_name: String,
    /// Where it runs, as its events tell.
    pub instance: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: DEFAULT_NAME.to_owned(), instance: String::new() }
    }
}

/// Why a scheduler ended before its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Without informers nothing would be noticed any more.
    #[error("the informers ended before the scheduler; they must live at least as long")]
    InformersEnded,
}

/// A scheduler.
pub struct Service {
    config: Config,
    client: kube::Client,
    informers: Informers,
}

impl Service {
    /// A scheduler that has not started. The informers may be shared with other components.
    pub fn new(config: Config, client: kube::Client, informers: Informers) -> Self {
        Self { config, client, informers }
    }

    /// Schedules until `shutdown`.
    ///
    /// # Errors
    /// [`Error::InformersEnded`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let (pods, nodes) = (self.informers.get::<Pod>(), self.informers.get::<Node>());
        let work = async {
            tokio::join!(pods.synced(), nodes.synced());
            let Config { scheduler_name, instance } = self.config;
            let recorder = Recorder::new(self.client.clone(), &scheduler_name, &instance);
            let reporter = Reporter::new(self.client.clone(), recorder);
            Scheduler::new(scheduler_name, Binder::new(self.client), reporter).run(&pods, &nodes).await;
        };
        match shutdown.run_until_cancelled(work).await {
            Some(()) if !shutdown.is_cancelled() => Err(Error::InformersEnded),
            _ => Ok(()),
        }
    }
}
