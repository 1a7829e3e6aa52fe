//! The ports of one pod: which are bound at which of its addresses, who listens, and the
//! ephemeral ones. A port is held by a [`PortLease`] and freed when that is dropped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::stream::Stream;

/// Connections that wait for `accept` where the listener does not say. A connect beyond
/// the backlog waits for room and then times out.
pub const BACKLOG_DEFAULT: usize = 128;
/// The longest backlog a listener gets; a longer one is cut to this.
pub const BACKLOG_MAX: usize = 1024;
/// Ports for sources and for binds to port 0; their number bounds a pod's connections.
pub(crate) const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

/// Connections on their way to a listener.
pub(crate) type Queue = mpsc::Sender<Stream>;

/// The port table of one pod.
#[derive(Debug)]
pub(crate) struct Ports {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    slots: HashMap<u16, Vec<Slot>>,
    next: u16,
    closed: bool,
}

#[derive(Debug)]
struct Slot {
    address: IpAddr,
    queue: Option<Queue>,
}

/// A bound port; dropping it frees the port and ends its listener.
#[derive(Debug)]
pub(crate) struct PortLease {
    ports: Arc<Ports>,
    address: IpAddr,
    port: u16,
}

impl Ports {
    pub(crate) fn new() -> Arc<Self> {
        let table = Table { slots: HashMap::new(), next: rand::random_range(EPHEMERAL), closed: false };
        Arc::new(Self { table: Mutex::new(table) })
    }

    /// Binds `port` at `address`; port 0 chooses an ephemeral one.
    pub(crate) fn bind(self: &Arc<Self>, address: IpAddr, port: u16) -> Result<PortLease, Error> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(Error::Detached);
        }
        let port = match port {
            0 => table.ephemeral(address)?,
            port if table.conflicts(address, port) => {
                return Err(Error::AddressInUse((address, port).into()));
            }
            port => port,
        };
        table.slots.entry(port).or_default().push(Slot { address, queue: None });
        Ok(PortLease { ports: Arc::clone(self), address, port })
    }

    /// The queue of whoever listens at `address` and `port`.
    pub(crate) fn listener(&self, address: IpAddr, port: u16) -> Option<Queue> {
        let table = self.table.lock();
        let slots = table.slots.get(&port)?;
        let exact = slots.iter().find(|slot| slot.address == address);
        let wildcard = || {
            slots
                .iter()
                .find(|slot| slot.address.is_unspecified() && slot.address.is_ipv4() == address.is_ipv4())
        };
        exact.or_else(wildcard)?.queue.clone()
    }

    /// Ends every listener and refuses further binds.
    pub(crate) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        // The streams in a queue are dropped, and so reset, outside of the lock.
        let slots = std::mem::take(&mut table.slots);
        drop(table);
        drop(slots);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.table.lock().closed
    }

    fn release(&self, address: IpAddr, port: u16) {
        let mut table = self.table.lock();
        let Some(slots) = table.slots.get_mut(&port) else { return };
        let removed =
            slots.iter().position(|slot| slot.address == address).map(|index| slots.swap_remove(index));
        if slots.is_empty() {
            table.slots.remove(&port);
        }
        drop(table);
        drop(removed);
    }
}

impl Table {
    fn conflicts(&self, address: IpAddr, port: u16) -> bool {
        self.slots.get(&port).is_some_and(|slots| {
            slots.iter().any(|slot| {
                slot.address == address
                    || slot.address.is_ipv4() == address.is_ipv4()
                        && (slot.address.is_unspecified() || address.is_unspecified())
            })
        })
    }

    fn ephemeral(&mut self, address: IpAddr) -> Result<u16, Error> {
        for _ in EPHEMERAL {
            let port = self.next;
            self.next = if port >= *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            if !self.conflicts(address, port) {
                return Ok(port);
            }
        }
        Err(Error::PortsExhausted(address))
    }
}

impl PortLease {
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts listening: connections to the port now wait in the returned queue.
    pub(crate) fn listen(&self, backlog: usize) -> Result<mpsc::Receiver<Stream>, Error> {
        let mut table = self.ports.table.lock();
        let slot = table
            .slots
            .get_mut(&self.port)
            .and_then(|slots| slots.iter_mut().find(|slot| slot.address == self.address))
            .ok_or(Error::Detached)?;
        let (queue, accepted) = mpsc::channel(backlog.clamp(1, BACKLOG_MAX));
        slot.queue = Some(queue);
        Ok(accepted)
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.ports.release(self.address, self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_conflict_as_sockets_do() {
        let cases = [
            ("0.0.0.0", "0.0.0.0", true),
            ("0.0.0.0", "127.0.0.1", true),
            ("10.0.0.5", "0.0.0.0", true),
            ("10.0.0.5", "127.0.0.1", false),
            ("0.0.0.0", "::", false),
            ("::", "::1", true),
            ("127.0.0.1", "::1", false),
        ];
        for (first, second, conflict) in cases {
            let ports = Ports::new();
            let _held = ports.bind(ip(first), 80).unwrap();
            assert_eq!(ports.bind(ip(second), 80).is_err(), conflict, "{first} {second}");
        }
    }

    #[test]
    fn a_dropped_lease_frees_the_port_and_its_listener() {
        let ports = Ports::new();
        let lease = ports.bind(ip("0.0.0.0"), 80).unwrap();
        assert!(ports.listener(ip("10.0.0.5"), 80).is_none(), "bound, not listening");
        let accepted = lease.listen(4).unwrap();
        assert!(ports.listener(ip("10.0.0.5"), 80).is_some());
        assert!(ports.listener(ip("::1"), 80).is_none());
        drop((lease, accepted));
        assert!(ports.listener(ip("10.0.0.5"), 80).is_none());
        assert!(ports.bind(ip("127.0.0.1"), 80).is_ok());
    }

    #[test]
    fn an_exact_listener_wins_over_none_elsewhere() {
        let ports = Ports::new();
        let loopback = ports.bind(ip("127.0.0.1"), 80).unwrap();
        let _accepted = loopback.listen(1).unwrap();
        assert!(ports.listener(ip("127.0.0.1"), 80).is_some());
        assert!(ports.listener(ip("10.0.0.5"), 80).is_none());
    }

    #[test]
    fn ephemeral_ports_are_distinct_and_run_out() {
        let ports = Ports::new();
        let leases: Vec<_> = EPHEMERAL.map(|_| ports.bind(ip("10.0.0.5"), 0).unwrap()).collect();
        assert!(leases.iter().all(|lease| EPHEMERAL.contains(&lease.port())));
        assert!(matches!(ports.bind(ip("10.0.0.5"), 0), Err(Error::PortsExhausted(_))));
        assert!(ports.bind(ip("127.0.0.1"), 0).is_ok(), "another address has its own");
        drop(leases);
        assert!(ports.bind(ip("10.0.0.5"), 0).is_ok());
    }

    #[test]
    fn a_closed_table_refuses() {
        let ports = Ports::new();
        let lease = ports.bind(ip("10.0.0.5"), 80).unwrap();
        ports.close();
        assert!(matches!(ports.bind(ip("10.0.0.5"), 81), Err(Error::Detached)));
        assert!(matches!(lease.listen(1), Err(Error::Detached)));
    }
}
