//! From what is in an image to a component: components as they are, core modules of WASI
//! preview 1 lifted with wasmtime's adapters, so that one path runs both.
//!
//! One thing is lost in the usual lifting: WASI 0.2's `exit` knows success and failure
//! but no number. So a module's `proc_exit` is led past the adapter to an interface of our
//! own, [`EXIT_INTERFACE`], that takes the number.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::imports::{self, NotOffered};

/// Where a lifted module's exit code goes.
pub(crate) const EXIT_INTERFACE: &str = "coracle:process/exit@0.1.0";
/// The function in [`EXIT_INTERFACE`].
pub(crate) const EXIT_FUNCTION: &str = "exit";
const EXIT_WIT: &str = "package coracle:process@0.1.0;
interface exit { exit: func(code: u32); }
world guest { import exit; }
";

/// Why a module is no component and cannot be made one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiftError {
    #[error("not valid WebAssembly: {0}")]
    Invalid(String),
    #[error(transparent)]
    NotOffered(#[from] NotOffered),
    #[error("cannot be adapted to WASI 0.2: {0}")]
    Unadaptable(String),
}

impl From<wasmparser::BinaryReaderError> for LiftError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The component in, or made from, `wasm`.
///
/// # Errors
/// See [`LiftError`].
pub(crate) fn component(wasm: &[u8]) -> Result<Vec<u8>, LiftError> {
    let outline = Outline::of(wasm)?;
    if outline.is_component {
        return Ok(wasm.to_vec());
    }
    for (module, name) in &outline.imports {
        imports::check_core(module, name)?;
    }
    let adapter = if outline.exports_start {
        WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER
    } else {
        WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER
    };
    let module = redirect_exit(wasm)?;
    encode(module.as_deref().unwrap_or(wasm), adapter)
        .map_err(|error| LiftError::Unadaptable(format!("{error:#}")))
}

fn encode(module: &[u8], adapter: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    Ok(ComponentEncoder::default()
        .module(module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?
        .encode()?)
}

/// What decides how a binary is treated.
#[derive(Default)]
struct Outline<'a> {
    is_component: bool,
    exports_start: bool,
    imports: Vec<(&'a str, &'a str)>,
}

impl<'a> Outline<'a> {
    fn of(wasm: &'a [u8]) -> Result<Self, LiftError> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::Version { encoding: Encoding::Component, .. } => {
                    outline.is_component = true;
                    return Ok(outline);
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        outline.imports.push((import.module, import.name));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        outline.exports_start |= export?.name == "_start";
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

/// The module with its import of `proc_exit` renamed; none when it has no such import.
fn redirect_exit(wasm: &[u8]) -> Result<Option<Vec<u8>>, LiftError> {
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::ImportSection(section) = payload? else {
            continue;
        };
        let body = section.range();
        let Some((start, end)) = proc_exit_names(wasm, section)? else {
            return Ok(None);
        };
        let mut renamed = wasm[body.start..start].to_vec();
        write_name(&mut renamed, EXIT_INTERFACE);
        write_name(&mut renamed, EXIT_FUNCTION);
        renamed.extend_from_slice(&wasm[end..body.end]);

        // The section's size stands before its body, in a form as long as it needs.
        let header = section_header(wasm, body.start, body.end)?;
        let mut module = wasm[..header].to_vec();
        module.push(IMPORT_SECTION);
        write_u32(&mut module, renamed.len() as u32);
        module.extend_from_slice(&renamed);
        module.extend_from_slice(&wasm[body.end..]);
        embed_exit_world(&mut module).map_err(|error| LiftError::Unadaptable(format!("{error:#}")))?;
        return Ok(Some(module));
    }
    Ok(None)
}

const IMPORT_SECTION: u8 = 2;

/// Where the section's id byte is: its size may be written in more bytes than it needs.
fn section_header(wasm: &[u8], start: usize, end: usize) -> Result<usize, LiftError> {
    let size = (end - start) as u32;
    for length in 1..=5 {
        let Some(id) = start.checked_sub(length + 1) else {
            break;
        };
        if wasm[id] == IMPORT_SECTION && read_u32(&wasm[id + 1..start]) == Some((size, length)) {
            return Ok(id);
        }
    }
    Err(LiftError::Invalid("its import section has no header".to_owned()))
}

/// The byte range of the two names of the import of `proc_exit`.
fn proc_exit_names(
    wasm: &[u8],
    section: wasmparser::SectionLimited<'_, wasmparser::Imports<'_>>,
) -> Result<Option<(usize, usize)>, LiftError> {
    for import in section.into_imports_with_offsets() {
        let (offset, import) = import?;
        if (import.module, import.name) != (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, "proc_exit") {
            continue;
        }
        let after = |at: usize, name: &str| -> Option<usize> {
            let (length, bytes) = read_u32(wasm.get(at..)?)?;
            let end = at + bytes + length as usize;
            (wasm.get(at + bytes..end)? == name.as_bytes()).then_some(end)
        };
        let end = after(offset, import.module).and_then(|at| after(at, import.name));
        // In the compact form of the section names are shared: then the number is lost,
        // and nothing else.
        return Ok(end.map(|end| (offset, end)));
    }
    Ok(None)
}

fn embed_exit_world(module: &mut Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("exit.wit", EXIT_WIT)?;
    let world = resolve.select_world(&[package], Some("guest"))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)?;
    Ok(())
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    write_u32(out, name.len() as u32);
    out.extend_from_slice(name.as_bytes());
}

/// LEB128, as all numbers of the format.
fn write_u32(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number and how many bytes it takes.
fn read_u32(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> &'static [u8] {
        let sample = coracle_images::samples::ALL.iter().find(|sample| sample.name == name);
        sample.unwrap().module
    }

    #[test]
    fn modules_become_components_and_components_stay() {
        for name in ["cli", "spin", "crash"] {
            let lifted = component(sample(name)).unwrap();
            assert!(Outline::of(&lifted).unwrap().is_component, "{name}");
        }
        assert_eq!(component(sample("hello")).unwrap(), sample("hello"));
    }

    #[test]
    fn the_exit_code_goes_past_the_adapter() {
        let module = redirect_exit(sample("cli")).unwrap().unwrap();
        let outline = Outline::of(&module).unwrap();
        assert!(outline.imports.contains(&(EXIT_INTERFACE, EXIT_FUNCTION)));
        assert!(!outline.imports.iter().any(|(_, name)| *name == "proc_exit"));
        wasmparser::Validator::new().validate_all(&module).unwrap();
    }

    #[test]
    fn what_is_not_wasm_says_so() {
        for bad in [&b""[..], b"\0as", b"\0asm\x09\0\0\0", b"#!/bin/sh", &sample("cli")[..100]] {
            assert!(matches!(component(bad), Err(LiftError::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn numbers_of_every_length() {
        for value in [0, 1, 127, 128, 300, 65_536, u32::MAX] {
            let mut bytes = Vec::new();
            write_u32(&mut bytes, value);
            assert_eq!(read_u32(&bytes), Some((value, bytes.len())));
        }
        assert_eq!(read_u32(&[0x80; 5]), None);
        assert_eq!(read_u32(&[0xff, 0xff, 0xff, 0xff, 0x7f]), None);
    }
}
