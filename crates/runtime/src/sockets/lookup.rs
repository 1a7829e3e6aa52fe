//! `wasi:sockets/ip-name-lookup`: names as the pod's resolver knows them.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::vec;

use coracle_network::Error;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    Host, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, SocketResult};

use super::{Sockets, code, give, retag};

/// A lookup under way, or what it found.
enum Lookup {
    Pending(Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Error>> + Send>>),
    Found(vec::IntoIter<IpAddr>),
    Failed(ErrorCode),
}

impl Lookup {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Pending(lookup) = self {
            *self = match lookup.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(addresses)) => Self::Found(addresses.into_iter()),
                Poll::Ready(Err(error)) => Self::Failed(code(&error)),
            };
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Host for Sockets<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.table.get(&network)?;
        let net = self.net.clone();
        let lookup = Lookup::Pending(Box::pin(async move { net.lookup(&name).await }));
        Ok(give(&self.table.push(lookup)?))
    }
}

impl HostResolveAddressStream for Sockets<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let lookup = self.table.get_mut(&retag::<_, Lookup>(&this))?;
        let _ = lookup.poll(&mut Context::from_waker(Waker::noop()));
        match lookup {
            Lookup::Pending(_) => Err(ErrorCode::WouldBlock.into()),
            Lookup::Found(addresses) => Ok(addresses.next().map(IpAddress::from)),
            Lookup::Failed(code) => Err((*code).into()),
        }
    }

    fn subscribe(&mut self, this: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime_wasi::p2::subscribe(self.table, retag::<_, Lookup>(&this))
    }

    fn drop(&mut self, this: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(give::<_, Lookup>(&this))?;
        Ok(())
    }
}
