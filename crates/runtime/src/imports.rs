//! What a guest may import, and what to say of the rest: which import it is, and what
//! would satisfy it.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Instances that the linker defines, up to their version.
const OFFERED: [&str; 26] = [
    "coracle:process/exit",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
];
/// The other interfaces of `wasi:sockets`, which have one name as a prefix of another.
const OFFERED_SOCKETS: [&str; 4] = [
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// A guest imports what this runtime does not offer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it imports {import}, which this runtime does not offer: {advice}")]
pub(crate) struct NotOffered {
    import: String,
    advice: &'static str,
}

/// Checks an import of a core module.
pub(crate) fn check_core(module: &str, name: &str) -> Result<(), NotOffered> {
    let advice = match module {
        "wasi_snapshot_preview1" => return Ok(()),
        // Names of component interfaces: checked once the module is lifted.
        _ if module.contains(':') || module == "$root" || module == "[export]$root" => {
            return Ok(());
        }
        "wasi_unstable" => "it was built for a draft of WASI; build it for wasm32-wasip1 or wasm32-wasip2",
        "gojs" | "go" => "it was built for browsers; build it with GOOS=wasip1",
        "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" => {
            "it was built with wasm-bindgen for browsers; build it for wasm32-wasip1 or wasm32-wasip2"
        }
        "env" => {
            "a library was not linked in, or it was built for browsers; \
             link everything statically and build for wasm32-wasip1"
        }
        _ => "a guest gets WASI preview 1 and WASI 0.2; link the rest in",
    };
    Err(NotOffered { import: format!("{module}#{name}"), advice })
}

/// Checks the imports of a component.
pub(crate) fn check_component(engine: &Engine, component: &Component) -> Result<(), NotOffered> {
    let ty = component.component_type();
    ty.imports(engine).try_for_each(|(import, _)| check_interface(import))
}

fn check_interface(import: &str) -> Result<(), NotOffered> {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let known = OFFERED.contains(&name) || OFFERED_SOCKETS.contains(&name);
    let of_wasi = name.starts_with("wasi:");
    if known && (!of_wasi || version.starts_with("0.2.")) {
        return Ok(());
    }
    let advice = match name.split('/').next().unwrap_or_default() {
        _ if of_wasi && version.starts_with("0.3") => "WASI 0.3 is not supported; build it for WASI 0.2",
        _ if known => "this version of WASI is not supported; build it for WASI 0.2",
        "wasi:keyvalue" => "use a Service that stores, or files in a volume",
        "wasi:config" => "use environment variables or a mounted ConfigMap",
        "wasi:logging" => "write to standard output or standard error",
        "wasi:nn" | "wasi:webgpu" => "accelerators are not available to guests",
        "wasi:tls" => "link a TLS library into the guest",
        _ => "compose the component with one that exports it",
    };
    Err(NotOffered { import: import.to_owned(), advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces() {
        for good in [
            "wasi:cli/environment@0.2.0",
            "wasi:sockets/tcp@0.2.12",
            "wasi:http/types@0.2.3",
            "coracle:process/exit@0.1.0",
        ] {
            assert_eq!(check_interface(good), Ok(()), "{good}");
        }
        for bad in [
            "wasi:cli/environment@0.3.0",
            "wasi:cli/environment@0.20.0",
            "wasi:keyvalue/store@0.2.0-draft",
            "acme:db/rows@1.0.0",
            "rows",
        ] {
            let error = check_interface(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("it imports {bad}, which")), "{error}");
        }
    }

    #[test]
    fn core_modules() {
        assert_eq!(check_core("wasi_snapshot_preview1", "fd_write"), Ok(()));
        assert_eq!(check_core("wasi:http/types@0.2.0", "x"), Ok(()));
        let error = check_core("env", "emscripten_sleep").unwrap_err().to_string();
        assert!(error.contains("env#emscripten_sleep"), "{error}");
    }
}
