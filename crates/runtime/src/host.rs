//! What all guests of a process share: the engine, the threads that they run on, the
//! epoch clock, and the programs that are loaded. Nodes of one process share one host.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::thread;

use coracle_images::Digest;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OnceCell, Semaphore, oneshot};
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::engine;
use crate::guest::{self, Guest};
use crate::program::{Program, ProgramError};
use crate::ticker::Ticker;

/// Modules that are compiled at a time; each takes as many threads as there are cores.
const COMPILING_MAX: usize = 2;
/// Threads for guests' blocking file operations; more operations wait.
const BLOCKING_THREADS_MAX: usize = 32;
/// Polls of guests between looks at timers and sockets: few, since one that computes
/// keeps the thread for a whole tick.
const EVENT_INTERVAL: u32 = 3;
/// Programs kept although no container uses them.
const IDLE_PROGRAMS_MAX: usize = 64;

/// The process could not be made ready to run guests.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// wasmtime does not work here.
    #[error("cannot set up the WebAssembly engine: {0}")]
    Engine(String),
    /// The system gives no more threads.
    #[error("cannot start the threads that guests run on")]
    Threads(#[from] std::io::Error),
}

/// The shared part of every runtime in a process.
pub(crate) struct Host {
    linker: Linker<Guest>,
    engine_id: Digest,
    ticker: Ticker,
    guests: Option<Runtime>,
    compiling: Semaphore,
    programs: Mutex<HashMap<Digest, Arc<OnceCell<Arc<Program>>>>>,
}

/// The host of this process, while anybody uses it.
static SHARED: Mutex<Weak<Host>> = Mutex::new(Weak::new());

impl Host {
    /// The process's host; made when nobody has it.
    pub(crate) fn shared() -> Result<Arc<Self>, HostError> {
        let mut shared = SHARED.lock();
        if let Some(host) = shared.upgrade() {
            return Ok(host);
        }
        let host = Arc::new(Self::new()?);
        *shared = Arc::downgrade(&host);
        Ok(host)
    }

    fn new() -> Result<Self, HostError> {
        let engine = engine::new().map_err(|error| HostError::Engine(format!("{error:#}")))?;
        let linker = guest::linker(&engine).map_err(|error| HostError::Engine(format!("{error:#}")))?;
        let guests = Builder::new_multi_thread()
            .thread_name("guest")
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .event_interval(EVENT_INTERVAL)
            .enable_all()
            .build()?;
        Ok(Self {
            engine_id: engine::identity(&engine),
            ticker: Ticker::start(&engine)?,
            linker,
            guests: Some(guests),
            compiling: Semaphore::new(COMPILING_MAX),
            programs: Mutex::default(),
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.linker.engine()
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// The threads for guests, apart from those of the control plane.
    pub(crate) fn guests(&self) -> &Handle {
        match &self.guests {
            Some(runtime) => runtime.handle(),
            None => unreachable!("taken only when dropped"),
        }
    }

    /// The program in a module. Made once, however many ask at the same time.
    pub(crate) async fn program(
        self: &Arc<Self>,
        images: &coracle_images::Store,
        module: Digest,
    ) -> Result<Arc<Program>, ProgramError> {
        let cell = self.cell(module);
        let program = cell.get_or_try_init(|| async {
            let permit = self.compiling.acquire().await;
            let program = self.load(images.clone(), module).await;
            drop(permit);
            program.map(Arc::new)
        });
        program.await.cloned()
    }

    async fn load(
        self: &Arc<Self>,
        images: coracle_images::Store,
        module: Digest,
    ) -> Result<Program, ProgramError> {
        let failed = |why: &str| ProgramError::Compile(why.to_owned());
        let (sender, receiver) = oneshot::channel();
        let host = Arc::clone(self);
        thread::Builder::new()
            .name("compile".to_owned())
            .spawn(move || {
                let program = Program::load(&host.linker, &host.engine_id, &images, &module);
                // Whoever asked may have gone; the code is in the cache all the same.
                let _ = sender.send(program);
            })
            .map_err(|error| failed(&error.to_string()))?;
        receiver.await.map_err(|_| failed("the compiler panicked"))?
    }

    fn cell(&self, module: Digest) -> Arc<OnceCell<Arc<Program>>> {
        let mut programs = self.programs.lock();
        if programs.len() > IDLE_PROGRAMS_MAX {
            programs.retain(|_, cell| Arc::strong_count(cell) > 1 || is_used(cell));
        }
        Arc::clone(programs.entry(module).or_default())
    }
}

fn is_used(cell: &OnceCell<Arc<Program>>) -> bool {
    cell.get().is_some_and(|program| Arc::strong_count(program) > 1)
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its threads end by themselves; waiting for them here would block a caller that
        // may itself be asynchronous.
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("engine", &self.engine_id).finish_non_exhaustive()
    }
}
