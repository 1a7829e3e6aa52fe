//! One port of a Service: which endpoints may take a connection and which one does. The
//! rules are kube-proxy's: ready endpoints; where none is ready, those that still serve
//! while they terminate; with a Local traffic policy, only those of this node.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Clients that one Service port remembers for session affinity. Beyond it expired ones
/// are forgotten, then the one unseen for longest.
const AFFINITY_CLIENTS_MAX: usize = 4096;

/// What identifies a Service port from one sync to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PortId {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) port: u16,
}

/// An endpoint with the facts that matter for picking.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) address: SocketAddr,
    pub(crate) local: bool,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
}

/// Whether endpoints of other nodes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Cluster,
    Local,
}

impl Policy {
    pub(crate) fn local_if(local: bool) -> Self {
        if local { Self::Local } else { Self::Cluster }
    }
}

/// Where a connection to the Service port comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// To a cluster address.
    Internal,
    /// To a node port.
    External,
}

/// A Service port as the snapshot holds it.
#[derive(Debug)]
pub(crate) struct PortRoute {
    pub(crate) id: PortId,
    pub(crate) internal: Vec<SocketAddr>,
    pub(crate) external: Vec<SocketAddr>,
    /// A node port keeps the client's address where only local endpoints answer.
    pub(crate) external_policy: Policy,
    /// Zero: no session affinity.
    pub(crate) affinity: Duration,
    pub(crate) state: Arc<PortState>,
}

/// What outlives a snapshot: whose turn it is, and who talked to whom.
#[derive(Debug)]
pub(crate) struct PortState {
    turn: AtomicUsize,
    sticky: Mutex<HashMap<IpAddr, Sticky>>,
}

#[derive(Debug, Clone, Copy)]
struct Sticky {
    endpoint: SocketAddr,
    seen: Instant,
}

/// The endpoints that may take connections under a policy.
pub(crate) fn usable(endpoints: &[Candidate], policy: Policy) -> Vec<SocketAddr> {
    let within = |candidate: &&Candidate| policy == Policy::Cluster || candidate.local;
    let ready: Vec<SocketAddr> = endpoints
        .iter()
        .filter(within)
        .filter(|endpoint| endpoint.ready)
        .map(|endpoint| endpoint.address)
        .collect();
    if !ready.is_empty() {
        return ready;
    }
    endpoints
        .iter()
        .filter(within)
        .filter(|endpoint| endpoint.serving && endpoint.terminating)
        .map(|endpoint| endpoint.address)
        .collect()
}

impl PortRoute {
    /// The endpoint for a connection of `client`, if there is any.
    pub(crate) fn pick(&self, origin: Origin, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        let endpoints = match origin {
            Origin::Internal => &self.internal,
            Origin::External => &self.external,
        };
        if endpoints.is_empty() {
            return None;
        }
        if self.affinity.is_zero() {
            return Some(self.state.next_of(endpoints));
        }
        Some(self.state.sticky_of(endpoints, client, self.affinity, now))
    }
}

impl Default for PortState {
    /// Starts at a random turn, so that the nodes of a cluster do not all begin with the
    /// same endpoint.
    fn default() -> Self {
        Self { turn: AtomicUsize::new(usize::from(rand::random::<u16>())), sticky: Mutex::default() }
    }
}

impl PortState {
    fn next_of(&self, endpoints: &[SocketAddr]) -> SocketAddr {
        endpoints[self.turn.fetch_add(1, Ordering::Relaxed) % endpoints.len()]
    }

    fn sticky_of(
        &self,
        endpoints: &[SocketAddr],
        client: IpAddr,
        timeout: Duration,
        now: Instant,
    ) -> SocketAddr {
        let mut sticky = self.sticky.lock();
        let remembered = sticky
            .get(&client)
            .filter(|known| now.duration_since(known.seen) < timeout)
            .map(|known| known.endpoint)
            .filter(|endpoint| endpoints.contains(endpoint));
        let endpoint = remembered.unwrap_or_else(|| self.next_of(endpoints));
        if sticky.len() >= AFFINITY_CLIENTS_MAX && !sticky.contains_key(&client) {
            forget(&mut sticky, timeout, now);
        }
        sticky.insert(client, Sticky { endpoint, seen: now });
        endpoint
    }
}

fn forget(sticky: &mut HashMap<IpAddr, Sticky>, timeout: Duration, now: Instant) {
    sticky.retain(|_, known| now.duration_since(known.seen) < timeout);
    if sticky.len() < AFFINITY_CLIENTS_MAX {
        return;
    }
    let oldest = sticky.iter().min_by_key(|(_, known)| known.seen).map(|(client, _)| *client);
    if let Some(client) = oldest {
        sticky.remove(&client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16, flags: &str) -> Candidate {
        Candidate {
            address: SocketAddr::new("10.128.0.9".parse().unwrap(), port),
            local: flags.contains('l'),
            ready: flags.contains('r'),
            serving: flags.contains('s'),
            terminating: flags.contains('t'),
        }
    }

    fn ports(endpoints: &[Candidate], policy: Policy) -> Vec<u16> {
        usable(endpoints, policy).iter().map(SocketAddr::port).collect()
    }

    #[test]
    fn ready_first_then_serving_while_terminating() {
        let all = [endpoint(1, "rs"), endpoint(2, "st"), endpoint(3, ""), endpoint(4, "lrs")];
        assert_eq!(ports(&all, Policy::Cluster), [1, 4]);
        assert_eq!(ports(&all, Policy::Local), [4]);
        let leaving = [endpoint(1, "st"), endpoint(2, "lst"), endpoint(3, "t")];
        assert_eq!(ports(&leaving, Policy::Cluster), [1, 2]);
        assert_eq!(ports(&leaving, Policy::Local), [2]);
        assert!(ports(&[endpoint(1, "rs")], Policy::Local).is_empty());
    }

    fn route(affinity_s: u64, endpoints: &[u16]) -> PortRoute {
        let endpoints: Vec<SocketAddr> = endpoints.iter().map(|port| endpoint(*port, "r").address).collect();
        PortRoute {
            id: PortId { namespace: "d".into(), service: "s".into(), port: 80 },
            internal: endpoints.clone(),
            external: endpoints,
            external_policy: Policy::Cluster,
            affinity: Duration::from_secs(affinity_s),
            state: Arc::default(),
        }
    }

    #[test]
    fn every_endpoint_has_its_turn() {
        let route = route(0, &[1, 2, 3]);
        let client = "10.128.0.2".parse().unwrap();
        let mut seen: Vec<u16> =
            (0..3).map(|_| route.pick(Origin::Internal, client, Instant::now()).unwrap().port()).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    }

    #[test]
    fn affinity_lasts_until_its_timeout_or_the_endpoint_goes() {
        let route = route(10, &[1, 2]);
        let client = "10.128.0.2".parse().unwrap();
        let start = Instant::now();
        let first = route.pick(Origin::Internal, client, start).unwrap();
        let soon = start + Duration::from_secs(9);
        assert_eq!(route.pick(Origin::Internal, client, soon), Some(first));
        let late = soon + Duration::from_secs(11);
        assert_ne!(route.pick(Origin::Internal, client, late), Some(first));
        let state = Arc::clone(&route.state);
        let gone = PortRoute { state, ..self::route(10, &[3]) };
        assert_eq!(gone.pick(Origin::Internal, client, late).map(|to| to.port()), Some(3));
    }

    #[test]
    fn remembered_clients_are_bounded() {
        let route = route(3600, &[1]);
        let now = Instant::now();
        for number in 0..AFFINITY_CLIENTS_MAX as u32 + 10 {
            let client = IpAddr::V4(std::net::Ipv4Addr::from(number));
            route.pick(Origin::External, client, now + Duration::from_millis(number.into()));
        }
        assert!(route.state.sticky.lock().len() <= AFFINITY_CLIENTS_MAX);
    }

    #[test]
    fn no_endpoint_no_answer() {
        let client = "10.128.0.2".parse().unwrap();
        assert_eq!(route(0, &[]).pick(Origin::Internal, client, Instant::now()), None);
    }
}
