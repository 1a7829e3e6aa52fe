//! The cluster's keys: one certificate authority, the certificates that it signs, TLS
//! settings made of them, kubeconfigs, and ServiceAccount tokens.
//!
//! [`Pki`] owns the CA key and the token signing key; both live in one directory (0700,
//! files 0600) or, for ephemeral clusters, only in memory. Certificates of components are
//! signed at start and never stored, so there is nothing to rotate on disk but the CA.
//!
//! Generated keys are ECDSA P-256. This crate never opens a socket.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ca;
mod error;
mod kubeconfig;
pub mod tls;
pub mod tokens;

pub use ca::{CertRequest, Credential, Pki, Usage};
pub use error::Error;
pub use kubeconfig::{Kubeconfig, kubeconfig};
