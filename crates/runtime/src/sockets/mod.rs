//! `wasi:sockets` over the pod's network: TCP and name lookup; UDP sockets are refused
//! with `not-supported`. Nothing here can reach the host's own sockets.
//!
//! The traits are wasmtime-wasi's, generated from the WIT of WASI 0.2; their resource
//! types are tags of its own sockets, which cannot be made outside of it. A handle is
//! only a number with such a tag, so the functions here keep entries of their own types
//! in the table under those numbers ([`retag`]).

mod lookup;
mod stream;
mod tcp;

use std::net::IpAddr;

use coracle_network::{Error, PodNet};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, HostNetwork, IpAddressFamily, Network};
use wasmtime_wasi::p2::bindings::sockets::{
    ip_name_lookup, tcp as tcp_bindings, tcp_create_socket, udp_create_socket,
};
use wasmtime_wasi::p2::{IoError, SocketError, SocketResult, UdpSocket};

use crate::guest::Guest;

/// A guest's sockets: what the bindings are implemented for.
pub(crate) struct Sockets<'a> {
    pub(crate) net: &'a PodNet,
    pub(crate) table: &'a mut ResourceTable,
}

struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = Sockets<'a>;
}

/// Defines the interfaces; those of the same names must already be there or allowed to be
/// shadowed.
pub(crate) fn add_to_linker(
    linker: &mut Linker<Guest>,
    sockets: fn(&mut Guest) -> Sockets<'_>,
) -> wasmtime::Result<()> {
    tcp_bindings::add_to_linker::<Guest, HasSockets>(linker, sockets)?;
    tcp_create_socket::add_to_linker::<Guest, HasSockets>(linker, sockets)?;
    udp_create_socket::add_to_linker::<Guest, HasSockets>(linker, sockets)?;
    ip_name_lookup::add_to_linker::<Guest, HasSockets>(linker, sockets)
}

/// The same handle under the type that its entry in the table really has.
fn retag<From: 'static, To: 'static>(handle: &Resource<From>) -> Resource<To> {
    Resource::new_borrow(handle.rep())
}

/// Hands an entry to the guest under the bindings' type.
fn give<From: 'static, To: 'static>(handle: &Resource<From>) -> Resource<To> {
    Resource::new_own(handle.rep())
}

/// The bindings ask every socket interface for the conversion of errors; `wasi:sockets/
/// network` itself is not shadowed.
impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, _: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(None)
    }
}

impl HostNetwork for Sockets<'_> {
    fn drop(&mut self, this: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp_create_socket::Host for Sockets<'_> {
    async fn create_udp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        Err(ErrorCode::NotSupported.into())
    }
}

fn code(error: &Error) -> ErrorCode {
    match error {
        Error::ConnectionRefused(_) => ErrorCode::ConnectionRefused,
        Error::TimedOut(_) => ErrorCode::Timeout,
        Error::Unreachable { .. } | Error::Detached => ErrorCode::RemoteUnreachable,
        Error::AccessDenied { .. } => ErrorCode::AccessDenied,
        Error::AddressInUse(_) => ErrorCode::AddressInUse,
        Error::AddressNotAvailable(_) => ErrorCode::AddressNotBindable,
        Error::PortsExhausted(_) => ErrorCode::NewSocketLimit,
        Error::NameNotFound(_) => ErrorCode::NameUnresolvable,
        _ => ErrorCode::Unknown,
    }
}

fn family_of(address: IpAddr) -> IpAddressFamily {
    match address {
        IpAddr::V4(_) => IpAddressFamily::Ipv4,
        IpAddr::V6(_) => IpAddressFamily::Ipv6,
    }
}
