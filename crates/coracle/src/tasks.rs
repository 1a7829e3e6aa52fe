//! The long-running parts of a process: started by name, watched for an early end, awaited
//! at shutdown.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;

/// A set of components. None of them may end before it is told to.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Tasks {
    /// Starts `work` as component `name`.
    pub fn spawn<F, E>(&mut self, name: &'static str, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        self.set.spawn(async move { (name, work.await.map_err(Into::into)) });
    }

    /// Waits until a component ends, and says which and why. For ever if there is none.
    pub async fn first_end(&mut self) -> anyhow::Error {
        match self.set.join_next().await {
            None => std::future::pending().await,
            Some(Ok((name, Ok(())))) => anyhow::anyhow!("{name} stopped unexpectedly"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(join)) => anyhow::anyhow!("a component panicked: {join}"),
        }
    }

    /// Waits for all components, which were told to stop, for at most `limit`; what still
    /// runs then is dropped. Errors are logged.
    pub async fn finish(mut self, limit: Duration) {
        let all = async {
            while let Some(ended) = self.set.join_next().await {
                match ended {
                    Ok((_, Ok(()))) => {}
                    Ok((name, Err(error))) => tracing::warn!("{name} while stopping: {error:#}"),
                    Err(join) => tracing::warn!("a component panicked while stopping: {join}"),
                }
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("some components did not stop within {limit:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_end_names_the_component_and_the_cause() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", std::future::pending::<anyhow::Result<()>>());
        tasks.spawn("weak", async { Err(anyhow::anyhow!("no disk")) });
        let error = tasks.first_end().await;
        assert_eq!(format!("{error:#}"), "weak failed: no disk");
    }

    #[tokio::test]
    async fn finish_drops_what_does_not_stop() {
        let mut tasks = Tasks::default();
        tasks.spawn("stuck", std::future::pending::<anyhow::Result<()>>());
        tasks.finish(Duration::from_millis(10)).await;
    }
}
