//! The sample images that are part of the binary.

/// Name and bytes of every sample: `coracle.local/samples/<name>:latest`.
pub const SAMPLES: [(&str, &[u8]); 7] = [
    ("caller", include_bytes!("../../../wasm-samples/prebuilt/caller.wasm")),
    ("cli", include_bytes!("../../../wasm-samples/prebuilt/cli.wasm")),
    ("crash", include_bytes!("../../../wasm-samples/prebuilt/crash.wasm")),
    ("hello", include_bytes!("../../../wasm-samples/prebuilt/hello.wasm")),
    ("memhog", include_bytes!("../../../wasm-samples/prebuilt/memhog.wasm")),
    ("spin", include_bytes!("../../../wasm-samples/prebuilt/spin.wasm")),
    ("tcp-echo", include_bytes!("../../../wasm-samples/prebuilt/tcp-echo.wasm")),
];

/// The image reference of a sample.
#[must_use]
pub fn reference(name: &str) -> String {
    format!("coracle.local/samples/{name}:latest")
}
