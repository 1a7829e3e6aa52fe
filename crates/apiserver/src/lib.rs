//! The API server: the only door to the store.
//!
//! A request walks through the front in this order, each step one module:
//!
//! | step | module |
//! |---|---|
//! | TCP accept, TLS, client certificate, connection limits | [`listener`] |
//! | request id, panic fence, in-flight limit, timeout, metrics, compression | [`router`] |
//! | who asks: certificate, bearer token, impersonation | [`authn`] |
//! | what is asked: path, verb, query | [`request`] |
//! | may they: RBAC over the cached roles and bindings | [`authz`] |
//! | in what form: `Accept`, `Content-Type` | [`negotiate`] |
//! | answers without storage: discovery, OpenAPI, health, reviews, tokens, logs | [`discovery`], [`openapi`], [`health`], [`hooks`] |
//! | everything else | [`registry`], over [`cache`] and [`admission`] |
//!
//! In-process callers enter at [`Handle::router`] with a `UserInfo` request extension and
//! skip TLS and authentication, never authorization. Identity is never read from a header.
//!
//! Wire behaviour is that of kube-apiserver 1.36; recorded conversations with a real one
//! settle every question of form.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admission;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod cache;
pub mod config;
pub mod discovery;
pub mod health;
pub mod hooks;
mod internal;
pub mod listener;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod registry;
pub mod request;
pub mod respond;
pub mod router;
pub mod service;

pub use config::Config;
pub use service::{Error, Handle, Service};
