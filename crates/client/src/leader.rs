//! Leader election on a Lease (coordination.k8s.io/v1).
//!
//! The rules are client-go's: a candidate takes a lease that nobody holds, that is its own, or
//! whose record has not changed for a lease duration by the candidate's own clock (clocks of
//! different machines are never compared). A leader renews; one that could not renew for the
//! renew deadline stops its work before anyone else can start. On shutdown the work is ended
//! first, then the lease is given up so that a successor need not wait.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long leadership lasts and how often it is renewed; the defaults are client-go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// How long others wait, after the last change they saw, before they take the lease.
    pub lease: Duration,
    /// How long a leader tries to renew before it gives up. Must be shorter than `lease`.
    pub renew_deadline: Duration,
    /// The pause between tries to take or renew. Must be shorter than `renew_deadline`.
    pub retry: Duration,
}

impl Default for Durations {
    fn default() -> Self {
        Durations {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Why an elector stopped without being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease could not be renewed in time, or somebody else holds it. The work was ended.
    #[error("{identity} no longer leads {lease}: {why}")]
    Lost {
        /// The lease as `namespace/name`.
        lease: String,
        /// Who lost it.
        identity: String,
        /// What happened to the last renewal.
        why: String,
    },
    /// The durations contradict one another.
    #[error("leader election needs retry < renew deadline < lease duration, all at least 1 s")]
    Durations,
}

/// A candidate for one lease.
pub struct Elector {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    durations: Durations,
    observed: Option<Observed>,
}

/// The lease's record as last seen, and when it was first seen so.
struct Observed {
    lease: Lease,
    since: Instant,
}

/// What one try to take or renew found.
enum Try {
    Leading,
    HeldBy(String),
    Failed(String),
}

impl Elector {
    /// A candidate known as `identity` for the Lease `namespace/name`.
    #[must_use]
    pub fn new(
        client: kube::Client,
        namespace: &str,
        name: &str,
        identity: &str,
        durations: Durations,
    ) -> Self {
        Elector {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            durations,
            observed: None,
        }
    }

    /// Waits to lead, runs `work` while leading, and gives the lease up after `shutdown`. The
    /// token given to `work` is cancelled when it must end; the lease is kept renewed until it
    /// has ended or the deadline has passed.
    ///
    /// # Errors
    /// [`Error::Lost`] if leadership was lost; the caller decides whether to stand again.
    pub async fn run<F, Fut>(mut self, shutdown: CancellationToken, work: F) -> Result<(), Error>
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = ()>,
    {
        let Durations { lease, renew_deadline, retry } = self.durations;
        if retry >= renew_deadline || renew_deadline >= lease || lease < Duration::from_secs(1) {
            return Err(Error::Durations);
        }
        if !self.acquire(&shutdown).await {
            return Ok(());
        }
        tracing::info!(lease = %self.label(), identity = %self.identity, "leading");
        let stop = shutdown.child_token();
        let outcome = {
            let mut work = std::pin::pin!(work(stop.clone()));
            let lost = tokio::select! {
                () = &mut work => None,
                why = self.renew_until_lost() => Some(why),
            };
            if lost.is_some() {
                stop.cancel();
                work.await;
            }
            lost
        };
        match outcome {
            None => {
                self.release().await;
                Ok(())
            }
            Some(why) => Err(Error::Lost { lease: self.label(), identity: self.identity.clone(), why }),
        }
    }

    /// Tries until it leads (true) or is told to stop (false).
    async fn acquire(&mut self, shutdown: &CancellationToken) -> bool {
        loop {
            let result = tokio::select! {
                () = shutdown.cancelled() => return false,
                result = self.try_once() => result,
            };
            let wait = match result {
                Try::Leading => return true,
                Try::HeldBy(holder) => {
                    tracing::debug!(lease = %self.label(), %holder, "waiting for the lease");
                    self.time_to_expiry().min(self.durations.retry)
                }
                Try::Failed(why) => {
                    tracing::debug!(lease = %self.label(), %why, "could not try for the lease");
                    self.durations.retry
                }
            };
            let wait = wait.max(Duration::from_millis(1));
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(jittered(wait)) => {}
            }
        }
    }

    /// Renews every retry period; returns why once the renew deadline has passed in vain.
    async fn renew_until_lost(&mut self) -> String {
        loop {
            tokio::time::sleep(self.durations.retry).await;
            let deadline = Instant::now() + self.durations.renew_deadline;
            let mut why = "the API server did not answer".to_owned();
            loop {
                match tokio::time::timeout_at(deadline, self.try_once()).await {
                    Ok(Try::Leading) => break,
                    Ok(Try::HeldBy(holder)) => return format!("it is held by {holder}"),
                    Ok(Try::Failed(reason)) => why = reason,
                    Err(_) => return why,
                }
                if Instant::now() + self.durations.retry >= deadline {
                    return why;
                }
                tokio::time::sleep(self.durations.retry).await;
            }
        }
    }

    async fn try_once(&mut self) -> Try {
        let current = match self.api.get_opt(&self.name).await {
            Ok(current) => current,
            Err(error) => return Try::Failed(error.to_string()),
        };
        let result = match current {
            None => self.api.create(&PostParams::default(), &self.record(None)).await,
            Some(current) => {
                self.observe(&current);
                let holder = holder(&current).to_owned();
                if !holder.is_empty() && holder != self.identity && !self.expired() {
                    return Try::HeldBy(holder);
                }
                let record = self.record(Some(&current));
                self.api.replace(&self.name, &PostParams::default(), &record).await
            }
        };
        match result {
            Ok(lease) => {
                self.observed = Some(Observed { lease, since: Instant::now() });
                Try::Leading
            }
            Err(error) => Try::Failed(error.to_string()),
        }
    }

    /// Remembers when the record was first seen as it is now.
    fn observe(&mut self, current: &Lease) {
        let same = self.observed.as_ref().is_some_and(|seen| seen.lease.spec == current.spec);
        if !same {
            self.observed = Some(Observed { lease: current.clone(), since: Instant::now() });
        }
    }

    fn expired(&self) -> bool {
        self.time_to_expiry().is_zero()
    }

    fn time_to_expiry(&self) -> Duration {
        let Some(seen) = &self.observed else { return Duration::ZERO };
        let spec = seen.lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        (seen.since + lasts).saturating_duration_since(Instant::now())
    }

    /// The record with which this candidate holds the lease.
    fn record(&self, current: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = current.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = old.lease_transitions.unwrap_or(0);
        let first = current.is_none();
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds(self.durations.lease)),
            acquire_time: if ours { old.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if ours || first { transitions } else { transitions + 1 }),
            ..old
        };
        self.lease(current, spec)
    }

    fn lease(&self, current: Option<&Lease>, spec: LeaseSpec) -> Lease {
        let metadata = match current {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta {
                namespace: Some(self.namespace.clone()),
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Gives the lease up; failing to is harmless, it then expires.
    async fn release(&mut self) {
        let Some(seen) = self.observed.take() else { return };
        if holder(&seen.lease) != self.identity {
            return;
        }
        let now = MicroTime(Timestamp::now());
        let old = seen.lease.spec.clone().unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..old
        };
        let lease = self.lease(Some(&seen.lease), spec);
        let parameters = PostParams::default();
        let give_up = self.api.replace(&self.name, &parameters, &lease);
        match tokio::time::timeout(self.durations.retry, give_up).await {
            Ok(Ok(_)) => tracing::debug!(lease = %self.label(), "gave the lease up"),
            Ok(Err(error)) => tracing::debug!(lease = %self.label(), %error, "lease left to expire"),
            Err(_) => tracing::debug!(lease = %self.label(), "lease left to expire: no answer"),
        }
    }

    fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// `wait` and up to a fifth more, so that candidates do not try in step.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + 0.2 * rand::random::<f64>())
}
