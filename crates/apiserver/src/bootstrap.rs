//! What every cluster has: namespaces, default roles and bindings, priority classes, the
//! Service and endpoints of the API itself, and the authority that extension servers trust.
//!
//! Runs at every start, before the first request is served. An object that is there already
//! stays as it is, except that default roles get rules that a newer version added (unless
//! they are marked otherwise) and the API's own endpoints follow its address. The writes run
//! side by side, so that a new cluster pays for a few disk syncs, not for seventy.

mod api_service;
mod objects;
mod policy;

use std::net::SocketAddr;

use coracle_api::meta;
use coracle_api::status::Status;
use futures::future::try_join_all;
use serde_json::Value;

use crate::config::Config;
use crate::internal::{self, At};
use crate::registry::Registry;
use crate::service::Error;

/// How often a write that lost a race against another master is tried again.
const ATTEMPTS_MAX: usize = 5;

/// An object that must be there.
struct Wanted {
    group: &'static str,
    plural: &'static str,
    value: Value,
    /// Brings an object that is there up to date; `None` when it already is.
    renew: fn(stored: &Value, wanted: &Value) -> Option<Value>,
}

impl Wanted {
    /// An object that is left alone once it is there.
    fn once(group: &'static str, plural: &'static str, value: Value) -> Self {
        Self { group, plural, value, renew: |_, _| None }
    }

    fn at(&self) -> At<'_> {
        let at = At::v1(self.group, self.plural);
        match meta::namespace(&self.value) {
            "" => at,
            namespace => at.within(namespace),
        }
    }

    fn describe(&self) -> String {
        format!("{} {}", self.plural, meta::name(&self.value))
    }
}

/// Writes what is missing. `address` is where this server listens.
///
/// # Errors
/// [`Error::Bootstrap`] with the first object that could not be written.
pub(crate) async fn run(config: &Config, registry: &Registry, address: SocketAddr) -> Result<(), Error> {
    // Objects in namespaces need their namespaces first.
    try_join_all(objects::namespaces().into_iter().map(|wanted| ensure(registry, wanted))).await?;
    let rest = objects::priority_classes()
        .into_iter()
        .chain(objects::extension_authentication(config))
        .chain(policy::wanted())
        .chain(api_service::wanted(config, address));
    try_join_all(rest.map(|wanted| ensure(registry, wanted))).await?;
    Ok(())
}

async fn ensure(registry: &Registry, wanted: Wanted) -> Result<(), Error> {
    let mut last = None;
    for _ in 0..ATTEMPTS_MAX {
        match attempt(registry, &wanted).await {
            Ok(()) => return Ok(()),
            // Another master wrote it between our read and our write.
            Err(status) if status.code == 409 => last = Some(status),
            Err(status) => return Err(failed(&wanted, &status)),
        }
    }
    last.map_or(Ok(()), |status| Err(failed(&wanted, &status)))
}

async fn attempt(registry: &Registry, wanted: &Wanted) -> Result<(), Status> {
    let at = wanted.at();
    let named = at.named(meta::name(&wanted.value));
    match internal::get(registry, named).await {
        Ok(stored) => match (wanted.renew)(&stored, &wanted.value) {
            Some(renewed) => internal::update(registry, named, &renewed).await.map(drop),
            None => Ok(()),
        },
        Err(status) if status.code == 404 => internal::create(registry, at, &wanted.value).await.map(drop),
        Err(status) => Err(status),
    }
}

fn failed(wanted: &Wanted, status: &Status) -> Error {
    Error::Bootstrap { what: wanted.describe(), why: status.message.clone() }
}
