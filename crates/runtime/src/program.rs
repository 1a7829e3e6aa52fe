//! A module made ready to run: lifted, compiled (or taken from the code cache), linked.
//! Done once per module and process; every container of the image starts from it.

use coracle_images::{CodeCache, Digest};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::guest::Guest;
use crate::imports::{self, NotOffered};
use crate::lift::{self, LiftError};

/// A module that can be started.
pub(crate) enum Program {
    /// Runs once, from `wasi:cli/run`.
    Command(CommandPre<Guest>),
    /// Answers requests, through `wasi:http/incoming-handler`.
    Http(ProxyPre<Guest>),
}

/// Why a module cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("the module cannot be run: {0}")]
    Lift(#[from] LiftError),
    #[error("the module cannot be run: {0}")]
    NotOffered(#[from] NotOffered),
    #[error("the module cannot be run: {0}")]
    Link(String),
    #[error("the module does not compile: {0}")]
    Compile(String),
    #[error(
        "the module exports neither wasi:cli/run nor wasi:http/incoming-handler of WASI 0.2, \
         nor _start of preview 1: there is nothing to start"
    )]
    NoEntry,
    #[error(transparent)]
    Read(#[from] coracle_images::ReadError),
}

impl Program {
    /// Makes a program of a module's bytes, which are asked for only when no compiled code
    /// is at hand. Blocks for as long as compiling takes.
    pub(crate) fn load(
        linker: &Linker<Guest>,
        engine_id: &Digest,
        images: &coracle_images::Store,
        module: &Digest,
    ) -> Result<Self, ProgramError> {
        let engine = linker.engine();
        let component = match cached(engine, images.code(), module, engine_id) {
            Some(component) => component,
            None => {
                let wasm = images.module(module)?;
                let component = compile(engine, &wasm)?;
                keep(images.code(), module, engine_id, &component);
                component
            }
        };
        Self::link(linker, &component)
    }

    fn link(linker: &Linker<Guest>, component: &Component) -> Result<Self, ProgramError> {
        let engine = linker.engine();
        imports::check_component(engine, component)?;
        let link = |error: wasmtime::Error| ProgramError::Link(format!("{error:#}"));
        let linked = linker.instantiate_pre(component).map_err(link)?;
        let exports = |interface: &str| {
            let ty = component.component_type();
            let mut names = ty.exports(engine).map(|(name, _)| name.to_owned());
            names.any(|name| name.starts_with(interface))
        };
        if exports("wasi:http/incoming-handler@0.2.") {
            Ok(Self::Http(ProxyPre::new(linked).map_err(link)?))
        } else if exports("wasi:cli/run@0.2.") {
            Ok(Self::Command(CommandPre::new(linked).map_err(link)?))
        } else {
            Err(ProgramError::NoEntry)
        }
    }
}

fn compile(engine: &Engine, wasm: &[u8]) -> Result<Component, ProgramError> {
    let component = lift::component(wasm)?;
    Component::new(engine, component).map_err(|error| ProgramError::Compile(format!("{error:#}")))
}

fn cached(engine: &Engine, code: &CodeCache, module: &Digest, engine_id: &Digest) -> Option<Component> {
    let code = code.get(module, engine_id)?;
    #[expect(
        unsafe_code,
        reason = "the cache gives out only what this node's key signed: code that `keep` wrote"
    )]
    // SAFETY: the bytes come from `Component::serialize`, of an engine of this identity.
    let component = unsafe { Component::deserialize(engine, code) };
    component.inspect_err(|error| tracing::warn!(%module, %error, "cached code not usable; compiling")).ok()
}

/// A cache that cannot be written costs time later, and nothing now.
fn keep(code: &CodeCache, module: &Digest, engine_id: &Digest, component: &Component) {
    match component.serialize() {
        Ok(bytes) => {
            if let Err(error) = code.put(module, engine_id, &bytes) {
                tracing::warn!(%module, %error, "compiled code not kept");
            }
        }
        Err(error) => tracing::warn!(%module, %error, "compiled code not kept"),
    }
}
