//! The bytes of votes, log ids, entries and membership (see the crate's documentation).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Entry, LogId, Member, Membership, Payload, StoredMembership, Vote};
use crate::{
    codec::{DecodeError, Reader, put_bytes, put_varint},
    command::{Command, Proposal},
};

/// Format byte of each of these records.
const FORMAT: u8 = 1;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_varint(&mut out, vote.leader_id.term);
    put_varint(&mut out, vote.leader_id.voted_for);
    out.push(u8::from(vote.committed));
    out
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, DecodeError> {
    let mut reader = Reader::new("vote", Bytes::copy_from_slice(bytes));
    reader.format(FORMAT)?;
    let (term, node) = (reader.varint()?, reader.varint()?);
    let committed = reader.bool()?;
    reader.end()?;
    Ok(if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) })
}

fn put_log_id(out: &mut Vec<u8>, id: Option<&LogId>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        put_varint(out, *id.leader_id);
        put_varint(out, id.index);
    }
}

fn log_id(reader: &mut Reader) -> Result<Option<LogId>, DecodeError> {
    if !reader.bool()? {
        return Ok(None);
    }
    let (term, index) = (reader.varint()?, reader.varint()?);
    Ok(Some(LogId::new_term_index(term, index)))
}

pub(crate) fn encode_log_id(id: Option<&LogId>) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_log_id(&mut out, id);
    out
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<Option<LogId>, DecodeError> {
    let mut reader = Reader::new("log id", Bytes::copy_from_slice(bytes));
    reader.format(FORMAT)?;
    let id = log_id(&mut reader)?;
    reader.end()?;
    Ok(id)
}

fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let configs = membership.get_joint_config();
    put_varint(out, configs.len() as u64);
    for config in configs {
        put_varint(out, config.len() as u64);
        for id in config {
            put_varint(out, *id);
        }
    }
    let nodes: Vec<_> = membership.nodes().collect();
    put_varint(out, nodes.len() as u64);
    for (id, member) in nodes {
        put_varint(out, *id);
        put_bytes(out, member.peer_address.as_bytes());
    }
}

fn membership(reader: &mut Reader) -> Result<Membership, DecodeError> {
    let mut configs = Vec::new();
    for _ in 0..reader.count()? {
        let voters = (0..reader.count()?).map(|_| reader.varint()).collect::<Result<BTreeSet<_>, _>>()?;
        configs.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..reader.count()? {
        let id = reader.varint()?;
        let address = reader.bytes()?;
        let peer_address = std::str::from_utf8(&address).map_err(|_| reader.error("address is not UTF-8"))?;
        nodes.insert(id, Member { peer_address: peer_address.to_owned() });
    }
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| reader.error("a voter is no member"))
}

pub(crate) fn encode_stored_membership(stored: &StoredMembership) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_log_id(&mut out, stored.log_id().as_ref());
    put_membership(&mut out, stored.membership());
    out
}

pub(crate) fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, DecodeError> {
    let mut reader = Reader::new("membership", Bytes::copy_from_slice(bytes));
    reader.format(FORMAT)?;
    let id = log_id(&mut reader)?;
    let membership = membership(&mut reader)?;
    reader.end()?;
    Ok(StoredMembership::new(id, membership))
}

/// Appends an entry's bytes; its index is the row's key.
pub(crate) fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.push(FORMAT);
    put_varint(out, *entry.log_id.leader_id);
    match &entry.payload {
        Payload::Blank => out.push(BLANK),
        Payload::Normal(proposal) => {
            out.push(COMMAND);
            proposal.command().encode(out);
        }
        Payload::Membership(membership) => {
            out.push(MEMBERSHIP);
            put_membership(out, membership);
        }
    }
}

pub(crate) fn decode_entry(index: u64, bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut reader = Reader::new("log entry", Bytes::copy_from_slice(bytes));
    reader.format(FORMAT)?;
    let term = reader.varint()?;
    let payload = match reader.u8()? {
        BLANK => Payload::Blank,
        COMMAND => Payload::Normal(Proposal::new(Command::decode(&mut reader)?)),
        MEMBERSHIP => Payload::Membership(membership(&mut reader)?),
        _ => return Err(reader.error("unknown kind of entry")),
    };
    reader.end()?;
    Ok(Entry { log_id: LogId::new_term_index(term, index), payload })
}

/// Term of an entry, without decoding the rest.
pub(crate) fn entry_log_id(index: u64, bytes: &[u8]) -> Result<LogId, DecodeError> {
    let head = &bytes[..bytes.len().min(16)];
    let mut reader = Reader::new("log entry", Bytes::copy_from_slice(head));
    reader.format(FORMAT)?;
    Ok(LogId::new_term_index(reader.varint()?, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive() {
        for vote in [Vote::new(0, 1), Vote::new_committed(7, u64::MAX)] {
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        for id in [None, Some(LogId::new_term_index(300, 1 << 40))] {
            assert_eq!(decode_log_id(&encode_log_id(id.as_ref())).unwrap(), id);
        }
        let member = |address: &str| Member { peer_address: address.into() };
        let nodes = BTreeMap::from([(1, member("a:1")), (2, member("b:2")), (3, member(""))]);
        let joint = vec![BTreeSet::from([1]), BTreeSet::from([1, 2])];
        let membership = Membership::new(joint, nodes).unwrap();
        for stored in [
            StoredMembership::default(),
            StoredMembership::new(Some(LogId::new_term_index(1, 2)), membership.clone()),
        ] {
            assert_eq!(decode_stored_membership(&encode_stored_membership(&stored)).unwrap(), stored);
        }
        let payloads = [
            Payload::Blank,
            Payload::Normal(Proposal::new(Command::Compact { revision: 9 })),
            Payload::Membership(membership),
        ];
        for payload in payloads {
            let entry = Entry { log_id: LogId::new_term_index(5, 77), payload };
            let mut out = Vec::new();
            encode_entry(&entry, &mut out);
            assert_eq!(format!("{:?}", decode_entry(77, &out).unwrap()), format!("{entry:?}"));
            assert_eq!(entry_log_id(77, &out).unwrap(), entry.log_id);
            assert!(decode_entry(77, &out[..1]).is_err());
        }
    }
}
