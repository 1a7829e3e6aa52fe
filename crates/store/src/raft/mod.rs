//! Consensus: openraft behind types of our own. The rest of the crate sees [`Proposal`]s
//! go in and [`Reply`]s come out; no openraft type leaves the crate.
//!
//! The log is [`log`], what it is applied to is [`machine`], the bytes of votes, entries
//! and membership are [`codec`], and [`network`] is where peers will be spoken to.

pub(crate) mod codec;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod network;
#[cfg(test)]
mod suite;
mod writer;

use openraft::{Raft, type_config::alias::*};

use crate::command::{Proposal, Reply};

/// A master, as membership knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// Where its peers reach it; empty while it is the only one.
    pub(crate) peer_address: String,
}

openraft::declare_raft_types!(
    /// The types that openraft works with. Terms have at most one leader, as in the Raft
    /// paper, so that an entry is known by term and index.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type Entry = EntryOf<TypeConfig>;
pub(crate) type Payload = EntryPayloadOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type RaftHandle = Raft<TypeConfig, machine::Machine>;
