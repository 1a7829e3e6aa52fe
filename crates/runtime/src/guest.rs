//! What one running instance owns on the host's side, and the linker through which it
//! reaches it. A guest can name nothing that is not in its own [`Guest`].

use std::sync::Arc;

use coracle_network::PodNet;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::account::{Account, Share};
use crate::http::OutgoingHttp;
use crate::lift::{EXIT_FUNCTION, EXIT_INTERFACE};
use crate::sockets::{self, Sockets};

/// Handles (files, sockets, streams, pollables …) that a guest may hold at a time. The
/// next one traps, as running out of table space does.
const HANDLES_MAX: usize = 16_384;
/// Bytes of header names and values that one message may carry.
const HEADER_BYTES_MAX: usize = 128 << 10;

/// A store's data.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: OutgoingHttp,
    table: ResourceTable,
    net: PodNet,
    memory: Share,
}

impl Guest {
    /// A store for one instance, whose calls yield at every tick of the epoch.
    pub(crate) fn store(engine: &Engine, wasi: WasiCtx, net: PodNet, account: Arc<Account>) -> Store<Self> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES_MAX);
        let guest = Self {
            wasi,
            http,
            outgoing: OutgoingHttp::new(net.clone()),
            table,
            net,
            memory: Share::new(account),
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }

    /// Its share of the container's memory.
    pub(crate) fn memory(&self) -> &Share {
        &self.memory
    }

    fn sockets(&mut self) -> Sockets<'_> {
        Sockets { net: &self.net, table: &mut self.table }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Everything that guests may import. What it defines is listed in `imports`.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    // The host's sockets, defined just now, are replaced by the pod's.
    linker.allow_shadowing(true);
    sockets::add_to_linker(&mut linker, Guest::sockets)?;
    linker.allow_shadowing(false);
    linker.instance(EXIT_INTERFACE)?.func_wrap(
        EXIT_FUNCTION,
        |_: StoreContextMut<'_, Guest>, (code,): (u32,)| -> wasmtime::Result<()> {
            // As waitpid reports it: the low eight bits.
            Err(wasmtime::Error::from(I32Exit((code & 0xff) as i32)))
        },
    )?;
    Ok(linker)
}
