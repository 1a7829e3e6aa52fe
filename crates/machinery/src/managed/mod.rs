//! Field management: which manager owns which fields of an object, for every write.
//!
//! `metadata.managedFields` has an entry per manager, operation, version and subresource with the
//! set of paths that it owns. [`update`] keeps it for creates, updates and patches; [`apply`] is
//! server-side apply (KEP-555), which is decided by it; [`update_scale`] and [`apply_scale`] are
//! the same for the `scale` subresource. How values merge is the schema's to say (list types, map
//! keys, atomic and granular maps); built-in kinds and custom resources go through the same code.
//!
//! The work is done at one point of a write: after decoding and defaulting, before admission and
//! before the kind's own rules. What those set nobody owns.

mod apply;
mod check;
mod compare;
mod conflict;
mod element;
mod entries;
mod form;
mod last_applied;
mod merge;
mod owned;
mod prune;
mod reset;
mod scale;
mod set;
mod update;

pub use apply::{apply, check_statement};
pub use reset::Reset;
pub use scale::{apply_scale, update_scale};
pub use update::{Writer, same_but_times, update};

#[cfg(test)]
mod tests;
