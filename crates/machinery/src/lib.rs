//! What happens to an object as a value, from the bytes of a request to the columns of a table.
//!
//! One engine over one schema model ([`coracle_api::schema`]): built-in kinds and custom
//! resources are decoded, pruned, defaulted and patched by the same code. What a schema cannot
//! say is one file per kind under [`kinds`]. Everything here is a function of its arguments: no
//! I/O, no clock, no randomness.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod decode;
pub mod defaults;
pub mod kinds;
pub mod managed;
pub mod partial;
pub mod patch;
pub mod table;
mod view;
