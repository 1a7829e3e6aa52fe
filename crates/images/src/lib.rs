//! What containers are made of: WebAssembly modules under image names, and the machine
//! code that was compiled from them.
//!
//! - [`Reference`] is an image name, parsed and completed as container tools do.
//! - [`Store`] keeps modules by the SHA-256 of their bytes, on disk or in memory, beside
//!   those that are built into the program.
//! - [`CodeCache`] keeps compiled code by module and engine, and hands it out only when
//!   its authentication code proves that this node wrote it.
//! - [`samples`] lists the guest programs that every Coracle carries.
//!
//! All nodes of a process share one [`Store`] and one [`CodeCache`]. Nothing here runs or
//! compiles a module, and nothing talks to a network: pulling from registries is not part
//! of this crate yet.
//!
//! # On disk
//!
//! ```text
//! <dir>/VERSION             {"format":1,"oldest_reader":1}
//! <dir>/lock                held while the index or the set of blobs changes
//! <dir>/index.json          {"format":1,"images":[{"reference","digest","size"}…]}
//! <dir>/blobs/sha256/<hex>  a module, exactly as it was loaded
//! <dir>/code/key            32 random bytes, mode 0600
//! <dir>/code/<hex>-<hex>    compiled code: see [`CodeCache`] for its byte table
//! ```
//!
//! Every file is written aside, synced and renamed, so a crash leaves the old state or
//! the new one. Several processes may use one directory: changes happen under the lock,
//! and readers notice a replaced index.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod code_cache;
mod digest;
mod disk;
mod index;
mod reference;
pub mod samples;
mod store;

pub use code_cache::{CODE_BYTES_MAX, CodeCache};
pub use digest::{Digest, InvalidDigest};
pub use disk::DiskError;
pub use reference::{InvalidReference, Reference};
pub use store::{ImageInfo, LoadError, MODULE_BYTES_MAX, OpenError, ReadError, RemoveError, Store, Usage};
