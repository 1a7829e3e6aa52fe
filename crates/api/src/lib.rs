//! The vocabulary of the Kubernetes API, version 1.36: which resources there are, what their
//! objects look like, and the small languages that objects and requests are written in.
//!
//! Everything here is a function of its arguments. There is no I/O, no clock and no randomness,
//! and nothing here decides what a request does: that is `machinery` and the drivers.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod field;
pub mod meta;
pub mod names;
pub mod quantity;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod user;

pub use field::{FieldError, FieldErrors, FieldPath};
pub use resource::{Gvk, Gvr, Resource, Scope};
pub use status::Status;
pub use user::UserInfo;
