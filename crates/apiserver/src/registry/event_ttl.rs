//! Events go by themselves: each is attached to a lease of the store.
//!
//! One lease serves all events of a few minutes, so that a storm of events costs a handful
//! of leases. An event lives at least its time to live, and at most that plus the span.

use coracle_store::{Error, Kv};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

/// How long one lease is handed out, in seconds.
const SPAN_S: i64 = 300;

/// The lease that new events get.
pub(super) struct EventLeases {
    ttl_s: i64,
    current: Mutex<Option<(i64, Instant)>>,
}

impl EventLeases {
    /// Leases that keep events for `ttl_s` seconds.
    pub(super) fn new(ttl_s: i64) -> Self {
        Self { ttl_s, current: Mutex::new(None) }
    }

    /// The lease for an event written now.
    ///
    /// # Errors
    /// Of the store.
    pub(super) async fn lease(&self, kv: &dyn Kv) -> Result<i64, Error> {
        let mut current = self.current.lock().await;
        if let Some((id, until)) = *current
            && Instant::now() < until
        {
            return Ok(id);
        }
        let lease = kv.lease_grant(0, self.ttl_s + SPAN_S).await?;
        let span = Duration::from_secs(u64::try_from(SPAN_S).unwrap_or_default());
        *current = Some((lease.id, Instant::now() + span));
        Ok(lease.id)
    }

    /// Forgets a lease that the store no longer knows.
    pub(super) async fn forget(&self, id: i64) {
        let mut current = self.current.lock().await;
        if current.is_some_and(|(known, _)| known == id) {
            *current = None;
        }
    }
}
