//! How a container ended, in the terms that Kubernetes users know.

use std::fmt::Write;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// Longest message kept, in bytes; kubelets cut at 4 KiB.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Killed without being asked, or after it did not comply (128 + SIGKILL).
pub(crate) const KILLED: i32 = 137;
/// Asked to stop and gone (128 + SIGTERM).
pub(crate) const TERMINATED: i32 = 143;
/// A trap (128 + SIGSEGV).
const TRAPPED: i32 = 139;
/// It never ran.
const NOT_STARTED: i32 = 128;
/// Nobody saw how it ended.
const UNKNOWN: i32 = 255;

/// What ContainerStatus says of an exited container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Exit {
    fn new(code: i32, reason: &str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
            message.truncate(end);
        }
        Self { code, reason: reason.to_owned(), message }
    }

    /// It ended by itself with an exit code.
    pub(crate) fn with_code(code: i32) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Self::new(code, reason, "")
    }

    pub(crate) fn signalled(code: i32) -> Self {
        Self::new(code, "Error", "")
    }

    pub(crate) fn out_of_memory(limit: Option<u64>) -> Self {
        let limit = limit.map_or_else(String::new, |limit| format!(" of {limit} bytes"));
        Self::new(KILLED, "OOMKilled", format!("memory limit{limit} exceeded"))
    }

    /// The runtime was gone while it ran.
    pub(crate) fn lost() -> Self {
        Self::new(UNKNOWN, "Unknown", "the container runtime was restarted while it ran")
    }

    pub(crate) fn detached() -> Self {
        Self::new(KILLED, "Error", "the pod left the network")
    }

    /// From what a command's call returned.
    pub(crate) fn of_command(result: wasmtime::Result<Result<(), ()>>) -> Self {
        match result {
            Ok(Ok(())) => Self::with_code(0),
            Ok(Err(())) => Self::with_code(1),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) => Self::with_code(*code),
                None if error.is::<Trap>() => Self::new(TRAPPED, "Error", describe(&error)),
                None if error.is::<WasmBacktrace>() => Self::new(TRAPPED, "Error", describe(&error)),
                None => Self::new(NOT_STARTED, "StartError", describe(&error)),
            },
        }
    }
}

/// An error of a guest: what it was, and where in the guest.
pub(crate) fn describe(error: &wasmtime::Error) -> String {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return text;
    };
    // Frames by number, offset in the module and demangled name.
    let _ = write!(text, "\n{backtrace}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_reasons() {
        let exit = |code| wasmtime::Error::from(I32Exit(code));
        for (result, code, reason) in [
            (Ok(Ok(())), 0, "Completed"),
            (Ok(Err(())), 1, "Error"),
            (Err(exit(0)), 0, "Completed"),
            (Err(exit(42)), 42, "Error"),
            (Err(Trap::StackOverflow.into()), 139, "Error"),
            (Err(wasmtime::Error::msg("no slot")), 128, "StartError"),
        ] {
            let exit = Exit::of_command(result);
            assert_eq!((exit.code, exit.reason.as_str()), (code, reason));
        }
        let trapped = Exit::of_command(Err(Trap::StackOverflow.into()));
        assert_eq!(trapped.message, "wasm trap: call stack exhausted");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let exit = Exit::new(1, "Error", "é".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(exit.message.len(), MESSAGE_BYTES_MAX);
    }
}
