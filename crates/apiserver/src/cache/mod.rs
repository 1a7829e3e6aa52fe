//! The watch cache: the newest state of every kind that somebody reads, as the bytes that
//! clients get, and a bounded ring of past events for watches that resume.
//!
//! | concern | module |
//! |---|---|
//! | one object as bytes and facts | [`object`] |
//! | one change | [`event`] |
//! | past changes, bounded in bytes | [`ring`] |
//! | who wants to hear of which change | [`watchers`] |
//! | one kind | [`kind`] |
//! | all kinds, and the one watch of the store that feeds them | [`feed`] |
//!
//! Invariants: an object is turned into bytes once, by the feed; readers share those bytes.
//! The feed never waits for a reader. No reader sees a state older than one it has seen
//! before from the same server, and events of one kind reach a watch in store order,
//! without gaps or repeats. Nothing here writes to the store.

pub(crate) mod event;
pub(crate) mod feed;
pub(crate) mod kind;
pub(crate) mod object;
pub(crate) mod ring;
pub(crate) mod watchers;

#[cfg(test)]
mod tests;

pub(crate) use event::{Change, Event};
pub(crate) use feed::{Caches, ReadError};
pub(crate) use kind::{Attached, KindCache, Place, Subscription};
pub(crate) use object::{Facts, Object, frame_of};
pub(crate) use ring::Resume;
pub(crate) use watchers::{INDEXED_FIELD, Scope};
