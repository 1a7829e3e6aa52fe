//! Notices that the network's process has gone. The node network API has no call that lasts
//! as long as the server, so one idle connection to its socket is held open: its end is the
//! server's end. It costs nothing while it lasts.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// An idle connection to the network's socket.
pub(crate) struct Lifeline {
    path: PathBuf,
    connection: Option<UnixStream>,
}

impl Lifeline {
    pub(crate) fn new(endpoint: &Path) -> Self {
        let path = endpoint
            .strip_prefix("unix:/")
            .map_or_else(|_| endpoint.to_path_buf(), |rest| Path::new("/").join(rest));
        Self { path, connection: None }
    }

    /// Connects, if it is not connected.
    pub(crate) async fn hold(&mut self) -> io::Result<()> {
        if self.connection.is_none() {
            self.connection = Some(UnixStream::connect(&self.path).await?);
        }
        Ok(())
    }

    /// Waits until the connection ends. Cancel safe; never ends while there is none.
    pub(crate) async fn lost(&mut self) {
        let Some(connection) = &mut self.connection else {
            return std::future::pending().await;
        };
        // What the server may say before it hears from us does not matter here.
        let mut ignored = [0; 64];
        while matches!(connection.read(&mut ignored).await, Ok(count) if count > 0) {}
        self.connection = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_paths_with_or_without_a_scheme() {
        for endpoint in ["/run/x.sock", "unix:///run/x.sock"] {
            assert_eq!(Lifeline::new(Path::new(endpoint)).path, Path::new("/run/x.sock"));
        }
    }
}
