//! The past of one kind: its last events, bounded in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::cache::event::Event;

/// Where a watch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// After this revision.
    AfterRevision(i64),
    /// After this event of the kind.
    AfterSequence(u64),
}

/// Events in order; the oldest go first when the budget is spent.
#[derive(Debug)]
pub(crate) struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    bytes_max: usize,
    floor_revision: i64,
    floor_sequence: u64,
}

impl Ring {
    /// An empty past of at most `bytes_max` bytes that begins after revision `floor`. One
    /// event is kept whatever its size.
    pub(crate) fn new(floor: i64, bytes_max: usize) -> Self {
        Self { events: VecDeque::new(), bytes: 0, bytes_max, floor_revision: floor, floor_sequence: 0 }
    }

    /// Every event after this revision is here; a watch may not resume before it.
    pub(crate) fn floor(&self) -> i64 {
        self.floor_revision
    }

    /// Appends the newest event.
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.cost();
        self.events.push_back(event);
        while self.bytes > self.bytes_max && self.events.len() > 1 {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes = self.bytes.saturating_sub(oldest.cost());
                self.floor_revision = oldest.revision;
                self.floor_sequence = oldest.sequence;
            }
        }
    }

    /// The events from there on, oldest first; `None` when some of them are gone.
    pub(crate) fn from(&self, resume: Resume) -> Option<impl Iterator<Item = &Arc<Event>>> {
        let at = match resume {
            Resume::AfterRevision(revision) if revision < self.floor_revision => return None,
            Resume::AfterSequence(sequence) if sequence < self.floor_sequence => return None,
            Resume::AfterRevision(revision) => {
                self.events.partition_point(|event| event.revision <= revision)
            }
            Resume::AfterSequence(sequence) => {
                self.events.partition_point(|event| event.sequence <= sequence)
            }
        };
        Some(self.events.range(at..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_bounded_and_knows_where_it_begins() {
        let mut ring = Ring::new(10, 1);
        for sequence in 1..=3_u64 {
            ring.push(Arc::new(Event::new(sequence, 10 + sequence as i64, None, None)));
        }
        // Events without objects cost nothing, so all of them fit.
        assert_eq!(ring.floor(), 10);
        assert_eq!(ring.from(Resume::AfterRevision(11)).unwrap().count(), 2);
        assert_eq!(ring.from(Resume::AfterSequence(3)).unwrap().count(), 0);
        assert!(ring.from(Resume::AfterRevision(9)).is_none());
    }
}
