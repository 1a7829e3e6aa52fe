//! Pod addresses of a node: hands out the addresses of its pod range, round after round,
//! so that a freed address rests as long as possible. The first address is the node's own
//! (the source of probes and node ports); the network and broadcast addresses are unused.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::Error;

/// Offsets considered in a large (IPv6) range: beyond any number of pods of one node.
const OFFSETS_MAX: u128 = 1 << 24;
/// Offset of the node's own address.
const NODE_OFFSET: u128 = 1;
/// Offset of the first pod address.
const FIRST_OFFSET: u128 = 2;

/// The addresses of one range and who has them.
#[derive(Debug)]
pub(crate) struct Addresses {
    cidr: IpNet,
    last: u128,
    used: HashSet<u128>,
    next: u128,
}

impl Addresses {
    pub(crate) fn new(cidr: IpNet) -> Self {
        let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
        let size = 1_u128.checked_shl(bits).unwrap_or(OFFSETS_MAX).min(OFFSETS_MAX);
        let reserved_at_end = u128::from(matches!(cidr, IpNet::V4(_)));
        let last = size.saturating_sub(1 + reserved_at_end);
        Self { cidr, last, used: HashSet::new(), next: FIRST_OFFSET }
    }

    pub(crate) fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// The node's own address in its pod range.
    pub(crate) fn node(&self) -> IpAddr {
        self.at(NODE_OFFSET)
    }

    /// Takes the requested address, or the next free one.
    pub(crate) fn allocate(&mut self, requested: Option<IpAddr>) -> Result<IpAddr, Error> {
        match requested {
            Some(address) => self.take(address),
            None => self.take_next(),
        }
    }

    /// Gives an address back; one of another range is none of ours.
    pub(crate) fn release(&mut self, address: IpAddr) {
        if let Some(offset) = self.offset(address) {
            self.used.remove(&offset);
        }
    }

    fn take(&mut self, address: IpAddr) -> Result<IpAddr, Error> {
        let offset = self
            .offset(address)
            .filter(|offset| (FIRST_OFFSET..=self.last).contains(offset))
            .ok_or(Error::AddressOutOfRange { address, cidr: self.cidr })?;
        if !self.used.insert(offset) {
            return Err(Error::AddressInUse((address, 0).into()));
        }
        Ok(address)
    }

    fn take_next(&mut self) -> Result<IpAddr, Error> {
        let count = (self.last + 1).saturating_sub(FIRST_OFFSET);
        for _ in 0..count {
            let offset = self.next;
            self.next = if offset >= self.last { FIRST_OFFSET } else { offset + 1 };
            if self.used.insert(offset) {
                return Ok(self.at(offset));
            }
        }
        Err(Error::AddressesExhausted(self.cidr))
    }

    fn offset(&self, address: IpAddr) -> Option<u128> {
        if !self.cidr.contains(&address) {
            return None;
        }
        Some(number(address) - number(self.cidr.network()))
    }

    fn at(&self, offset: u128) -> IpAddr {
        let number = number(self.cidr.network()).wrapping_add(offset);
        match self.cidr {
            // The offset lies within the range, so the number fits its family.
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(cidr: &str) -> Addresses {
        Addresses::new(cidr.parse().unwrap())
    }

    #[test]
    fn skips_the_reserved_ones_and_runs_out() {
        let mut pool = addresses("10.128.0.0/29");
        assert_eq!(pool.node().to_string(), "10.128.0.1");
        let all: Vec<String> = (0..5).map(|_| pool.allocate(None).unwrap().to_string()).collect();
        assert_eq!(all, ["10.128.0.2", "10.128.0.3", "10.128.0.4", "10.128.0.5", "10.128.0.6"]);
        assert!(matches!(pool.allocate(None), Err(Error::AddressesExhausted(_))));
    }

    #[test]
    fn a_freed_address_rests_until_the_others_were_used() {
        let mut pool = addresses("10.128.0.0/29");
        let first = pool.allocate(None).unwrap();
        pool.release(first);
        assert_eq!(pool.allocate(None).unwrap().to_string(), "10.128.0.3");
        for _ in 0..3 {
            pool.allocate(None).unwrap();
        }
        assert_eq!(pool.allocate(None).unwrap(), first);
    }

    #[test]
    fn honours_requests() {
        let mut pool = addresses("10.128.0.0/29");
        let wanted = "10.128.0.4".parse().unwrap();
        assert_eq!(pool.allocate(Some(wanted)).unwrap(), wanted);
        assert!(matches!(pool.allocate(Some(wanted)), Err(Error::AddressInUse(_))));
        for reserved in ["10.128.0.0", "10.128.0.1", "10.128.0.7", "10.128.0.8", "::1"] {
            let address = reserved.parse().unwrap();
            assert!(
                matches!(pool.allocate(Some(address)), Err(Error::AddressOutOfRange { .. })),
                "{reserved}"
            );
        }
    }

    #[test]
    fn odd_ranges_do_not_panic() {
        assert!(addresses("10.0.0.1/32").allocate(None).is_err());
        assert!(addresses("10.0.0.0/31").allocate(None).is_err());
        assert_eq!(addresses("fd00::/64").allocate(None).unwrap().to_string(), "fd00::2");
        assert_eq!(addresses("::/0").allocate(None).unwrap().to_string(), "::2");
        assert!(addresses("0.0.0.0/0").allocate(None).is_ok());
    }
}
