//! Node ports: listening sockets of the host network whose connections lead to a
//! Service's endpoints. They are opened and closed by syncs; which endpoint answers is
//! decided per connection from the snapshot of that moment.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener};
use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_cri::network::v1::{PortProblem, Protocol};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::fabric::{Fabric, Inner};
use crate::routes::Routes;

/// Connections that all node ports of a node carry at once; further ones wait in the
/// kernel's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The open node ports.
#[derive(Debug)]
pub(crate) struct NodePorts {
    address: IpAddr,
    /// The guard of each port ends its task, and so closes its socket.
    open: Mutex<HashMap<u16, DropGuard>>,
    places: Arc<Semaphore>,
}

impl NodePorts {
    pub(crate) fn new(address: IpAddr) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { address, open: Mutex::default(), places }
    }

    /// Makes the open ports those of the snapshot; tells which could not be opened.
    pub(crate) fn reconcile(&self, fabric: &Fabric, routes: &Routes) -> Vec<PortProblem> {
        let mut open = self.open.lock();
        open.retain(|port, _| routes.node_ports.contains_key(port));
        let mut problems = Vec::new();
        for (port, route) in &routes.node_ports {
            if open.contains_key(port) {
                continue;
            }
            match self.listen(fabric, *port) {
                Ok(guard) => {
                    open.insert(*port, guard);
                }
                Err(error) => problems.push(PortProblem {
                    namespace: route.id.namespace.clone(),
                    service: route.id.service.clone(),
                    protocol: Protocol::Tcp.into(),
                    node_port: u32::from(*port),
                    message: format!("cannot listen on {}:{port}: {error}", self.address),
                }),
            }
        }
        problems
    }

    /// Closes every port.
    pub(crate) fn close(&self) {
        self.open.lock().clear();
    }

    fn listen(&self, fabric: &Fabric, port: u16) -> io::Result<DropGuard> {
        let socket = StdTcpListener::bind((self.address, port))?;
        socket.set_nonblocking(true)?;
        let _runtime = fabric.runtime().enter();
        let socket = TcpListener::from_std(socket)?;
        let stop = fabric.inner.stop.child_token();
        let acceptor =
            Acceptor { port, fabric: Arc::downgrade(&fabric.inner), places: Arc::clone(&self.places) };
        let stopped = stop.clone();
        tokio::spawn(async move {
            stopped.run_until_cancelled_owned(acceptor.serve(socket)).await;
        });
        Ok(stop.drop_guard())
    }
}

/// The task of one port.
struct Acceptor {
    port: u16,
    fabric: Weak<Inner>,
    places: Arc<Semaphore>,
}

impl Acceptor {
    async fn serve(self, socket: TcpListener) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match socket.accept().await {
                Ok((client, from)) => {
                    let Some(inner) = self.fabric.upgrade() else { return };
                    tokio::spawn(relay(Fabric { inner }, self.port, client, from, place));
                }
                Err(error) => {
                    warn!(port = self.port, %error, "node port cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Carries one connection until both sides have finished or one has failed.
async fn relay(
    fabric: Fabric,
    port: u16,
    mut client: TcpStream,
    from: SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    let stop: CancellationToken = fabric.inner.stop.clone();
    let mut stream = match fabric.connect_node_port(port, from).await {
        Ok(stream) => stream,
        Err(error) => {
            debug!(port, %error, "node port connection refused");
            // The client should see a refusal, not an orderly end.
            let _ = client.set_zero_linger();
            return;
        }
    };
    drop(fabric);
    let _ = client.set_nodelay(true);
    let copy = tokio::io::copy_bidirectional(&mut client, &mut stream);
    if !matches!(stop.run_until_cancelled(copy).await, Some(Ok(_))) {
        let _ = client.set_zero_linger();
        stream.abort();
    }
}
