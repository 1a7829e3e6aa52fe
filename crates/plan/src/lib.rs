//! plan

pub mod controllers;
pub mod rbac;
pub mod kubelet;
