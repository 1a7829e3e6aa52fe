//! The clock that makes guests yield: one thread that advances the engine's epoch while
//! any guest is on a thread, and sleeps when none is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use wasmtime::{Engine, EngineWeak};

/// How long a guest keeps a thread before others get their turn, and so the longest that
/// a kill waits for one that never calls the host.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// The clock runs on for this long after the last guest yielded, so that a server with
/// steady traffic does not wake a thread for every request.
const LINGER: Duration = Duration::from_millis(200);

/// Counts the guests on threads. Dropping it ends the clock.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    parked: AtomicBool,
    ended: AtomicBool,
}

/// A guest on a thread.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let clock = Arc::clone(&shared);
        let engine = engine.weak();
        let thread =
            thread::Builder::new().name("guest-epoch".to_owned()).spawn(move || clock.run(&engine))?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// To be called before a guest runs, and held until it yields.
    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Shared {
    fn run(&self, engine: &EngineWeak) {
        let mut last_seen = Instant::now();
        while !self.ended.load(Ordering::SeqCst) {
            if self.running.load(Ordering::SeqCst) > 0 {
                last_seen = Instant::now();
            } else if last_seen.elapsed() > LINGER {
                self.park();
                last_seen = Instant::now();
            }
            thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    }

    /// Says that it sleeps before it looks once more, so that no guest is missed.
    fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.ended.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}
