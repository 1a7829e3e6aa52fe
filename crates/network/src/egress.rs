//! Which addresses outside of the cluster a guest may reach over the host's network.
//! Whatever the setting says, the host's own loopback and link-local addresses are never
//! among them: what listens there trusts its neighbours.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::error::Error;

/// The policy for addresses in no cluster range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Egress {
    /// Guests stay within the cluster.
    #[default]
    Deny,
    /// Guests may open TCP connections to other hosts.
    Allow,
}

impl Egress {
    /// Whether a guest may be connected to `to`, which no route of the fabric covers.
    pub(crate) fn check(self, to: SocketAddr, cluster: &[IpNet]) -> Result<(), Error> {
        let denied = |why| Err(Error::AccessDenied { to, why });
        if let Some(why) = never(to.ip()) {
            return denied(why);
        }
        if cluster.iter().any(|range| range.contains(&to.ip())) {
            return Err(Error::Unreachable { to, why: "no such address in the cluster".to_owned() });
        }
        match self {
            Self::Allow => Ok(()),
            Self::Deny => denied("egress from the cluster is off"),
        }
    }

    /// Whether names outside of the cluster are looked up.
    pub(crate) fn resolves_names(self) -> bool {
        self == Self::Allow
    }
}

/// Why an address is out of bounds for every guest, if it is.
pub(crate) fn never(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            if v4.is_loopback() || v4.octets()[0] == 0 {
                Some("the host's loopback")
            } else if v4.is_link_local() {
                Some("link-local")
            } else if v4.is_multicast() || v4.is_broadcast() {
                Some("not a unicast address")
            } else {
                None
            }
        }
        IpAddr::V6(v6) => never_v6(v6),
    }
}

fn never_v6(v6: Ipv6Addr) -> Option<&'static str> {
    // ::/96 holds the unspecified address, loopback and the IPv4-compatible forms.
    if v6.segments()[..6] == [0; 6] {
        Some("the host's loopback")
    } else if v6.is_unicast_link_local() {
        Some("link-local")
    } else if v6.is_multicast() {
        Some("not a unicast address")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_itself_is_always_out_of_bounds() {
        let addresses = [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:169.254.1.1",
            "::127.0.0.1",
            "fe80::1",
            "ff02::1",
        ];
        for address in addresses {
            let to = SocketAddr::new(address.parse().unwrap(), 80);
            assert!(matches!(Egress::Allow.check(to, &[]), Err(Error::AccessDenied { .. })), "{address}");
        }
    }

    #[test]
    fn other_hosts_by_policy_and_cluster_ranges_never() {
        let cluster = ["10.0.0.0/16".parse().unwrap()];
        let outside = "93.184.216.34:443".parse().unwrap();
        let inside = "10.0.9.9:443".parse().unwrap();
        assert!(Egress::Allow.check(outside, &cluster).is_ok());
        assert!(matches!(Egress::Deny.check(outside, &cluster), Err(Error::AccessDenied { .. })));
        assert!(matches!(Egress::Allow.check(inside, &cluster), Err(Error::Unreachable { .. })));
    }
}
