//! plan

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod controllers;
pub mod kubelet;
pub mod rbac;
pub mod scheduler;
pub mod services;
