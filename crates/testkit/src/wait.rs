//! Waiting for a condition without knowing when it comes.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;

/// Longest wait, unless the machine is hopelessly slow.
const LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` gives a value, and returns it.
///
/// # Errors
/// After a minute, with `what` and the last thing that `look` said.
pub async fn eventually<T, F, Fut>(what: &str, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let began = Instant::now();
    loop {
        let why = match look().await {
            Ok(value) => return Ok(value),
            Err(why) => why,
        };
        if began.elapsed() > LIMIT {
            bail!("waited {LIMIT:?} for {what}; last: {why:#}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a pod's Ready condition is True.
#[must_use]
pub fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
