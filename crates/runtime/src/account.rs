//! What a container uses: memory against its limit, and CPU time as its threads' clocks
//! tell. Shared by all instances of the container.

use std::future::Future;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

use crate::engine::TABLE_ELEMENTS_MAX;
use crate::ticker::Ticker;

/// Instances, memories and tables of one component, shims included. More is refused.
const PARTS_MAX: usize = 64;
/// Bytes that an element of a table takes.
const TABLE_ELEMENT_BYTES: u64 = 8;
/// Stands for "no limit".
const UNLIMITED: u64 = u64::MAX;

/// A container's usage.
#[derive(Debug)]
pub(crate) struct Account {
    memory_limit: AtomicU64,
    memory_bytes: AtomicU64,
    memory_peak_bytes: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Account {
    /// With a memory limit in bytes; zero means none, as in CRI.
    pub(crate) fn new(memory_limit: u64) -> Self {
        let account = Self {
            memory_limit: AtomicU64::new(UNLIMITED),
            memory_bytes: AtomicU64::new(0),
            memory_peak_bytes: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
        };
        account.set_memory_limit(memory_limit);
        account
    }

    /// Takes effect when a memory grows next; what is held already stays.
    pub(crate) fn set_memory_limit(&self, bytes: u64) {
        let limit = if bytes == 0 { UNLIMITED } else { bytes };
        self.memory_limit.store(limit, Ordering::Relaxed);
    }

    /// The limit in bytes, if there is one.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        Some(self.memory_limit.load(Ordering::Relaxed)).filter(|limit| *limit != UNLIMITED)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.memory_peak_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }

    fn charge(&self, bytes: u64) -> bool {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        let charged = self.memory_bytes.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|sum| *sum <= limit)
        });
        if let Ok(before) = charged {
            self.memory_peak_bytes.fetch_max(before + bytes, Ordering::Relaxed);
        }
        charged.is_ok()
    }

    fn release(&self, bytes: u64) {
        self.memory_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Runs a guest's future: keeps the epoch clock going while it is on a thread, and
    /// adds the thread's CPU time to the account.
    pub(crate) async fn run<F: Future>(&self, ticker: &Ticker, guest: F) -> F::Output {
        let mut guest = pin!(guest);
        poll_fn(move |cx| {
            let _running = ticker.running();
            let before = thread_cpu_ns();
            let polled = guest.as_mut().poll(cx);
            let spent = thread_cpu_ns().saturating_sub(before);
            self.cpu_ns.fetch_add(spent, Ordering::Relaxed);
            polled
        })
        .await
    }
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// One instance's share of its container's account; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    account: std::sync::Arc<Account>,
    held: u64,
    last_growth: u64,
    denied: bool,
}

impl Share {
    pub(crate) fn new(account: std::sync::Arc<Account>) -> Self {
        Self { account, held: 0, last_growth: 0, denied: false }
    }

    /// Whether the instance was refused memory.
    pub(crate) fn denied(&self) -> bool {
        self.denied
    }

    /// Whether the container's other instances hold memory.
    pub(crate) fn others_hold_memory(&self) -> bool {
        self.account.memory_bytes() > self.held
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let granted = self.account.charge(bytes);
        if granted {
            self.held += bytes;
            self.last_growth = bytes;
        } else {
            self.denied = true;
        }
        granted
    }

    fn undo(&mut self) {
        self.account.release(self.last_growth);
        self.held -= self.last_growth;
        self.last_growth = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.release(self.held);
    }
}

impl ResourceLimiter for Share {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired - current) as u64))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(%error, "a memory could not grow");
        self.undo();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired - current) as u64 * TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn shares_add_up_to_the_limit_and_come_back() {
        let account = Arc::new(Account::new(100));
        let mut first = Share::new(Arc::clone(&account));
        let mut second = Share::new(Arc::clone(&account));
        assert!(first.memory_growing(0, 60, None).unwrap());
        assert!(!first.others_hold_memory());
        assert!(!second.memory_growing(0, 60, None).unwrap());
        assert!(second.denied() && !first.denied());
        assert!(second.others_hold_memory());
        drop(first);
        assert!(second.memory_growing(0, 60, None).unwrap());
        second.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!(account.memory_bytes(), 0);
        assert_eq!(account.memory_peak_bytes(), 60);
        drop(second);
        assert_eq!(account.memory_bytes(), 0);
    }

    #[test]
    fn no_limit_and_a_changed_one() {
        let account = Arc::new(Account::new(0));
        assert_eq!(account.memory_limit(), None);
        let mut share = Share::new(Arc::clone(&account));
        assert!(share.memory_growing(0, 1 << 32, None).unwrap());
        account.set_memory_limit(10);
        assert!(!share.memory_growing(1 << 32, (1 << 32) + 1, None).unwrap());
        assert!(!share.memory_growing(0, 2, Some(1)).unwrap());
    }
}
