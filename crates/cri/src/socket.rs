//! Both ends of the runtime's unix socket: a tonic channel for clients, a stream of
//! accepted connections for servers.
//!
//! The socket file is private to its owner (mode 0600): whoever can open it can run
//! code on the node.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Largest message either side accepts, in bytes. The gRPC default of 4 MiB is too
/// small for the list of containers of a node with thousands of pods, and this is what
/// kubelets use.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How long opening the socket may take before the runtime counts as absent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there, or the file may not be opened by this user.
    #[error("cannot reach the container runtime at {path}")]
    Unreachable {
        /// The socket's path.
        path: PathBuf,
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
}

/// The socket could not be opened for serving.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers on the socket.
    #[error("another process already serves {path}; stop it or choose another socket")]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// The path is longer than the system's socket addresses allow, its directory is
    /// missing, or it may not be written.
    #[error("cannot listen on {path}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Connects to a runtime and waits until it answers. `endpoint` is a path, with or
/// without the `unix://` that kubelets put before it.
///
/// # Errors
/// [`ConnectError::Unreachable`] when nobody accepts within five seconds.
pub async fn connect(endpoint: impl AsRef<Path>) -> Result<Channel, ConnectError> {
    let path = socket_path(endpoint.as_ref());
    let connector = Connector::new(path.clone());
    channel_options()
        .connect_with_connector(tower::service_fn(move |_: Uri| connector.clone().open()))
        .await
        .map_err(|source| ConnectError::Unreachable { path, source })
}

/// A channel that connects at its first call, and again after the runtime was gone.
pub fn connect_lazy(endpoint: impl AsRef<Path>) -> Channel {
    let connector = Connector::new(socket_path(endpoint.as_ref()));
    channel_options().connect_with_connector_lazy(tower::service_fn(move |_: Uri| connector.clone().open()))
}

/// Listens on `path`, replacing a socket file that a dead process left behind. The
/// result is what `tonic::transport::Server::serve_with_incoming` wants.
///
/// # Errors
/// [`BindError::InUse`] when a live process answers there, else [`BindError::Io`].
pub async fn bind(path: impl AsRef<Path>) -> Result<Incoming, BindError> {
    let path = path.as_ref().to_path_buf();
    let io_error = |source| BindError::Io { path: path.clone(), source };
    if path.exists() {
        if UnixStream::connect(&path).await.is_ok() {
            return Err(BindError::InUse { path });
        }
        std::fs::remove_file(&path).map_err(io_error)?;
    }
    let listener = UnixListener::bind(&path).map_err(io_error)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(io_error)?;
    Ok(Incoming { listener, path })
}

/// Connections accepted on a unix socket. Dropping it removes the socket file.
#[derive(Debug)]
pub struct Incoming {
    listener: UnixListener,
    path: PathBuf,
}

impl Incoming {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Stream for Incoming {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.poll_accept(cx).map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Whether it is still there does not matter: a new owner replaces it anyway.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the socket anew for every (re)connection of a channel.
#[derive(Clone)]
struct Connector {
    path: PathBuf,
}

impl Connector {
    fn new(path: PathBuf) -> Self {
        Self { path }
    }

    async fn open(self) -> io::Result<TokioIo<UnixStream>> {
        UnixStream::connect(&self.path).await.map(TokioIo::new)
    }
}

/// The address is never resolved; it only fills the `:authority` of requests.
fn channel_options() -> Endpoint {
    Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT)
}

fn socket_path(endpoint: &Path) -> PathBuf {
    endpoint
        .to_str()
        .and_then(|text| text.strip_prefix("unix://"))
        .map_or_else(|| endpoint.to_path_buf(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_forms_name_the_same_socket() {
        for form in ["/run/r.sock", "unix:///run/r.sock"] {
            assert_eq!(socket_path(Path::new(form)), Path::new("/run/r.sock"));
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.sock");
        // A listener whose process died leaves its file behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let incoming = bind(&path).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(bind(&path).await, Err(BindError::InUse { .. })));
        drop(incoming);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn an_absent_runtime_is_named() {
        let error = connect("unix:///nonexistent/r.sock").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot reach the container runtime at /nonexistent/r.sock");
    }
}
