//! Compiles the wire contracts in `proto/` into the modules of this crate, with protox
//! in place of protoc so that no build needs a C++ tool.

use std::error::Error;
use std::path::Path;

/// Paths below `proto/` of everything this crate speaks.
const CONTRACTS: [&str; 2] = ["runtime/v1/api.proto", "coracle/network/v1/network.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = protox::compile(CONTRACTS, [&root])?;
    tonic_prost_build::configure()
        // Stream payloads move as reference-counted slices, never copied.
        .bytes(".coracle.network.v1")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
