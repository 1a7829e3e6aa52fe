//! How wasmtime is set up: one engine per process, whose settings are fixed, so that
//! compiled code of one run serves the next.
//!
//! Instances come from a pool of reserved address space: a slot costs no memory until it
//! is used, and starting an instance maps its initial memory copy-on-write. Reservations
//! keep their full 4 GiB, since smaller ones need bounds checks in every memory access;
//! limits on what a guest may use are kept elsewhere, when its memory grows.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;

use coracle_images::Digest;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// Instances that may run at a time, where the system allows the address space for it
/// (some 4 GiB each, of 128 TiB). The next one fails to start, and says why.
const SLOTS: u32 = 6_000;
/// Below this many slots a pool is not worth having, and instances are mapped one by one.
const SLOTS_MIN: u32 = 64;
/// Slots that keep their mappings for the next instance of the same module.
const WARM_SLOTS: u32 = 64;
/// Bytes at the start of a freed memory that are zeroed in place rather than given back:
/// cheaper than the page faults of the next instance.
const MEMORY_RESIDENT_BYTES: usize = 64 << 10;
/// Core instances, tables and memories per component: a lifted module has the module,
/// its adapter and two shims.
const CORE_INSTANCES_PER_SLOT: u32 = 4;
const TABLES_PER_SLOT: u32 = 3;
/// Largest table, in elements; a module that wants more is refused.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Bytes of wasm stack. Deeper recursion traps.
const STACK_BYTES: usize = 1 << 20;
/// Frames of a trap's backtrace; those nearest to it.
const FRAMES_MAX: usize = 16;
/// Changes when lifting or linking changes what is compiled from a given module.
const FORMAT: &str = "coracle-code-1";

/// Makes the engine, with as large a pool as the system grants.
///
/// # Errors
/// When wasmtime cannot run on this machine at all.
pub(crate) fn new() -> wasmtime::Result<Engine> {
    let mut slots = SLOTS;
    while slots >= SLOTS_MIN {
        match Engine::new(&config(Some(slots))) {
            Ok(engine) => {
                if slots < SLOTS {
                    tracing::warn!(
                        slots,
                        wanted = SLOTS,
                        "address space is limited: fewer containers can run at a time"
                    );
                }
                return Ok(engine);
            }
            Err(error) => tracing::debug!(slots, %error, "pool refused"),
        }
        slots /= 2;
    }
    tracing::warn!("address space is very limited: instances are mapped one by one");
    Engine::new(&config(None))
}

/// What compiled code must match to run here.
pub(crate) fn identity(engine: &Engine) -> Digest {
    let mut bytes = Bytes(FORMAT.as_bytes().to_vec());
    engine.precompile_compatibility_hash().hash(&mut bytes);
    Digest::of(&bytes.0)
}

fn config(slots: Option<u32>) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(STACK_BYTES)
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES_MAX))
        .memory_init_cow(true);
    if let Some(slots) = slots {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
    }
    config
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_SLOT))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES_PER_SLOT))
        .total_stacks(slots)
        .total_gc_heaps(slots.min(1_000))
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(MEMORY_RESIDENT_BYTES);
    pool
}

/// Collects what is hashed, for a digest that is the same in every run.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_the_same_for_every_engine_of_this_build() {
        let first = Engine::new(&config(Some(SLOTS_MIN))).unwrap();
        let second = Engine::new(&config(Some(2 * SLOTS_MIN))).unwrap();
        assert_eq!(identity(&first), identity(&second));
    }
}
