//! The pods that wait for a node, and when to look at each again.
//!
//! | place | holds | leaves it |
//! |---|---|---|
//! | active | pods to be tried now, by rank | tried |
//! | back-off | pods that an event may have helped, soon after their last try | when the pause is over, or nobody else is to be tried |
//! | paused | pods whose last try failed through no fault of theirs | when the pause is over |
//! | unschedulable | pods that no node can run | when an event may help, or after a long time |
//! | gated | pods that may not be tried | when they are changed |
//! | in flight | pods that were tried and are being bound | bound, or back |
//!
//! The time is monotonic, from any origin, and always an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::framework::{ClusterEvent, Framework, Rank, Rejection};
use super::pod_info::{PodInfo, Uid};

/// The pause after a pod's first failed try; it doubles with every further one.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// An unschedulable pod is tried again after this long even if nothing happened that seems
/// to help it: a net below the events.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// A pod to be tried.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// Which try it is, from 1.
    pub number: u32,
}

/// What became of a pod that was put into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queued {
    /// It waits for its turn, or its pause.
    Waiting,
    /// It may not be tried.
    Gated(Rejection),
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<Uid, Entry>,
    active: BTreeMap<(Rank, u64), Uid>,
    backoff: BTreeMap<(Duration, u64), Uid>,
    paused: BTreeMap<(Duration, u64), Uid>,
    unschedulable: BTreeMap<(Duration, u64), Uid>,
    /// Makes keys distinct, and orders what is otherwise equal.
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    attempts: u32,
    /// When it was tried last.
    tried: Duration,
    rejected_by: Vec<&'static str>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active(Rank, u64),
    Backoff(Duration, u64),
    Paused(Duration, u64),
    Unschedulable(Duration, u64),
    Gated,
    InFlight,
}

impl Queue {
    /// How many pods are in the queue, those in flight included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no pod.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the pod is in the queue, in flight included.
    pub fn contains(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// Whether [`Queue::pop`] would give a pod.
    pub fn is_ready(&self, now: Duration) -> bool {
        let due = self.next_deadline().is_some_and(|due| due <= now);
        due || !self.active.is_empty() || !self.backoff.is_empty()
    }

    /// Takes in a pod, or its new version. What only the status says about a pod is not
    /// news: a pod that waits goes on waiting.
    pub fn put(&mut self, framework: &Framework, pod: Arc<PodInfo>, now: Duration) -> Queued {
        let gate = framework.pre_enqueue(&pod).err();
        let uid = Arc::clone(&pod.uid);
        match self.entries.get_mut(&uid) {
            Some(entry) => {
                let news = is_news(&entry.pod, &pod);
                let place = entry.place;
                entry.pod = pod;
                match (place, &gate) {
                    (Place::InFlight, _) => {}
                    (Place::Gated, None) => self.activate(framework, &uid, now),
                    (Place::Gated, Some(_)) => {}
                    (_, Some(_)) => self.move_to(&uid, Place::Gated),
                    (Place::Unschedulable(..), None) if news => self.wake(framework, &uid, now),
                    (Place::Active(..), None) if news => self.activate(framework, &uid, now),
                    _ => {}
                }
            }
            None => {
                let place = Place::Gated;
                let entry = Entry { pod, attempts: 0, tried: now, rejected_by: Vec::new(), place };
                self.entries.insert(Arc::clone(&uid), entry);
                if gate.is_none() {
                    self.activate(framework, &uid, now);
                }
            }
        }
        gate.map_or(Queued::Waiting, Queued::Gated)
    }

    /// Takes a pod out: it is gone, or has a node.
    pub fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.leave(entry.place);
        }
    }

    /// The pod to be tried next; it is in flight then. When no pod is active, one in its
    /// back-off need not wait for the end of it: the pause only lets others go first.
    pub fn pop(&mut self, framework: &Framework, now: Duration) -> Option<Attempt> {
        self.flush(framework, now);
        let next = self.active.pop_first().map(|(_, uid)| uid);
        let uid = next.or_else(|| self.backoff.pop_first().map(|(_, uid)| uid))?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.tried = now;
        Some(Attempt { pod: Arc::clone(&entry.pod), number: entry.attempts })
    }

    /// The try failed: no node can run the pod, says whom it must please.
    pub fn unschedulable(&mut self, uid: &str, rejected_by: Vec<&'static str>, now: Duration) {
        let Some((uid, entry)) = self.in_flight(uid) else { return };
        entry.rejected_by = rejected_by;
        let place = Place::Unschedulable(now, self.next_serial());
        self.move_to(&uid, place);
    }

    /// The try failed for a reason that is not the pod's: it is tried again after its pause.
    pub fn retry(&mut self, framework: &Framework, uid: &str, now: Duration) {
        let Some((uid, entry)) = self.in_flight(uid) else { return };
        let due = entry.tried + pause(entry.attempts);
        if due <= now {
            self.activate(framework, &uid, now);
        } else {
            let place = Place::Paused(due, self.next_serial());
            self.move_to(&uid, place);
        }
    }

    /// Something happened: pods that it may help are tried again. Returns how many.
    pub fn on_event(&mut self, framework: &Framework, event: &ClusterEvent<'_>, now: Duration) -> usize {
        if self.unschedulable.is_empty() || !framework.is_interested(event) {
            return 0;
        }
        let helped: Vec<Uid> = self
            .unschedulable
            .values()
            .filter(|uid| {
                let entry = self.entries.get(*uid);
                entry.is_some_and(|entry| framework.may_help(&entry.pod, &entry.rejected_by, event))
            })
            .cloned()
            .collect();
        for uid in &helped {
            self.wake(framework, uid, now);
        }
        helped.len()
    }

    /// When the queue next changes by itself.
    pub fn next_deadline(&self) -> Option<Duration> {
        let backoff = self.backoff.keys().next().map(|(due, _)| *due);
        let paused = self.paused.keys().next().map(|(due, _)| *due);
        let forgotten = self.unschedulable.keys().next().map(|(since, _)| *since + UNSCHEDULABLE_MAX);
        [backoff, paused, forgotten].into_iter().flatten().min()
    }

    fn flush(&mut self, framework: &Framework, now: Duration) {
        while let Some(uid) = first_due(&self.backoff, now).or_else(|| first_due(&self.paused, now)) {
            self.activate(framework, &uid, now);
        }
        let forgotten = now.checked_sub(UNSCHEDULABLE_MAX);
        while let Some(uid) = forgotten.and_then(|since| first_due(&self.unschedulable, since)) {
            self.wake(framework, &uid, now);
        }
    }

    /// Active, or to the end of its pause first.
    fn wake(&mut self, framework: &Framework, uid: &Uid, now: Duration) {
        let Some(entry) = self.entries.get(uid) else { return };
        let due = entry.tried + pause(entry.attempts);
        if entry.attempts == 0 || due <= now {
            self.activate(framework, uid, now);
        } else {
            let place = Place::Backoff(due, self.next_serial());
            self.move_to(uid, place);
        }
    }

    fn activate(&mut self, framework: &Framework, uid: &Uid, now: Duration) {
        let Some(entry) = self.entries.get(uid) else { return };
        // A pod that is active already keeps its turn.
        let since = match entry.place {
            Place::Active((_, since), _) => since,
            _ => now,
        };
        let rank = framework.rank(&entry.pod, since);
        let place = Place::Active(rank, self.next_serial());
        self.move_to(uid, place);
    }

    fn in_flight(&mut self, uid: &str) -> Option<(Uid, &mut Entry)> {
        let entry = self.entries.get_mut(uid).filter(|entry| entry.place == Place::InFlight)?;
        Some((Arc::clone(&entry.pod.uid), entry))
    }

    fn move_to(&mut self, uid: &Uid, place: Place) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let left = std::mem::replace(&mut entry.place, place);
        self.leave(left);
        match place {
            Place::Active(rank, serial) => {
                self.active.insert((rank, serial), Arc::clone(uid));
            }
            Place::Backoff(due, serial) => {
                self.backoff.insert((due, serial), Arc::clone(uid));
            }
            Place::Paused(due, serial) => {
                self.paused.insert((due, serial), Arc::clone(uid));
            }
            Place::Unschedulable(since, serial) => {
                self.unschedulable.insert((since, serial), Arc::clone(uid));
            }
            Place::Gated | Place::InFlight => {}
        }
    }

    fn leave(&mut self, place: Place) {
        match place {
            Place::Active(rank, serial) => self.active.remove(&(rank, serial)),
            Place::Backoff(due, serial) => self.backoff.remove(&(due, serial)),
            Place::Paused(due, serial) => self.paused.remove(&(due, serial)),
            Place::Unschedulable(since, serial) => self.unschedulable.remove(&(since, serial)),
            Place::Gated | Place::InFlight => None,
        };
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// The first pod whose time has come.
fn first_due(waiting: &BTreeMap<(Duration, u64), Uid>, now: Duration) -> Option<Uid> {
    let (&(due, _), uid) = waiting.first_key_value()?;
    (due <= now).then(|| Arc::clone(uid))
}

fn pause(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    (BACKOFF_MIN * (1 << doublings)).min(BACKOFF_MAX)
}

fn is_news(old: &PodInfo, new: &PodInfo) -> bool {
    old.pod.spec != new.pod.spec || old.pod.metadata.labels != new.pod.metadata.labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::framework::NodeChange;
    use crate::scheduler::plugins::ALL;
    use crate::scheduler::testing::{MakeNode, MakePod};

    struct Bench {
        framework: Framework,
        queue: Queue,
    }

    impl Bench {
        fn new() -> Self {
            Self { framework: Framework::new(ALL), queue: Queue::default() }
        }

        fn put(&mut self, pod: MakePod, at: u64) -> Queued {
            self.queue.put(&self.framework, pod.info(), seconds(at))
        }

        fn pop(&mut self, at: u64) -> Option<String> {
            let attempt = self.queue.pop(&self.framework, seconds(at))?;
            Some(attempt.pod.name().to_owned())
        }

        fn fail(&mut self, name: &str, plugin: &'static str, at: u64) {
            self.queue.unschedulable(&format!("default/{name}"), vec![plugin], seconds(at));
        }

        fn event(&mut self, event: &ClusterEvent<'_>, at: u64) -> usize {
            self.queue.on_event(&self.framework, event, seconds(at))
        }
    }

    fn seconds(at: u64) -> Duration {
        Duration::from_secs(at)
    }

    #[test]
    fn priority_then_age() {
        let mut bench = Bench::new();
        bench.put(MakePod::new("late"), 2);
        bench.put(MakePod::new("early"), 1);
        bench.put(MakePod::new("twin"), 1);
        bench.put(MakePod::new("urgent").priority(9), 3);
        let order: Vec<_> = (0..5).map(|_| bench.pop(4)).collect();
        let names: Vec<_> = order.iter().flatten().map(String::as_str).collect();
        assert_eq!(names, ["urgent", "early", "twin", "late"]);
    }

    #[test]
    fn an_event_that_helps_brings_a_pod_back_behind_others() {
        let mut bench = Bench::new();
        bench.put(MakePod::new("p").req(&[("cpu", "4")]), 0);
        bench.pop(0).unwrap();
        bench.fail("p", "NodeResourcesFit", 0);
        assert_eq!(bench.pop(100), None, "nothing has happened");

        let small = MakeNode::new("a").capacity(&[("cpu", "1"), ("pods", "9")]).info();
        let large = MakeNode::new("b").info();
        let labels =
            NodeChange::between(Some(&MakeNode::new("b").arc()), &MakeNode::new("b").label("a", "b").arc());
        assert_eq!(bench.event(&ClusterEvent::NodeAdded(&small), 0), 0, "too small");
        assert_eq!(bench.event(&ClusterEvent::NodeUpdated(&large, labels), 0), 0, "labels");
        assert_eq!(bench.event(&ClusterEvent::NodeAdded(&large), 0), 1);
        assert_eq!(bench.queue.next_deadline(), Some(seconds(1)));
        bench.put(MakePod::new("fresh"), 0);
        assert_eq!(bench.pop(0).as_deref(), Some("fresh"));
        assert!(bench.queue.is_ready(seconds(0)));
        assert_eq!(bench.pop(0).as_deref(), Some("p"), "nobody else is to be tried");
        assert!(!bench.queue.is_ready(seconds(1000)), "all are in flight");
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pauses: Vec<u64> = (1..=6).map(|attempts| pause(attempts).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert_eq!(pause(u32::MAX), BACKOFF_MAX);
        let mut bench = Bench::new();
        bench.put(MakePod::new("p"), 0);
        bench.pop(0).unwrap();
        bench.queue.retry(&bench.framework, "default/p", seconds(0));
        assert_eq!(bench.pop(0), None);
        bench.pop(1).unwrap();
        bench.queue.retry(&bench.framework, "default/p", seconds(1));
        assert_eq!(bench.pop(2), None);
        assert_eq!(bench.pop(3).as_deref(), Some("p"));
    }

    #[test]
    fn a_forgotten_pod_is_tried_again_in_the_end() {
        let mut bench = Bench::new();
        bench.put(MakePod::new("p"), 0);
        bench.pop(0).unwrap();
        bench.fail("p", "NodeName", 0);
        assert_eq!(bench.queue.next_deadline(), Some(UNSCHEDULABLE_MAX));
        assert_eq!(bench.pop(299), None);
        assert_eq!(bench.pop(300).as_deref(), Some("p"));
    }

    #[test]
    fn gates_hold_until_the_pod_is_changed() {
        let mut bench = Bench::new();
        let gated = bench.put(MakePod::new("p").gate("wait"), 0);
        assert!(matches!(gated, Queued::Gated(rejection) if rejection.plugin == "SchedulingGates"));
        assert_eq!((bench.pop(1), bench.queue.next_deadline()), (None, None));
        assert_eq!(bench.put(MakePod::new("p"), 2), Queued::Waiting);
        assert_eq!(bench.pop(2).as_deref(), Some("p"));
    }

    #[test]
    fn news_about_an_unschedulable_pod_but_not_of_its_status() {
        let mut bench = Bench::new();
        bench.put(MakePod::new("p"), 0);
        bench.pop(0).unwrap();
        bench.fail("p", "NodeAffinity", 0);
        let mut status = MakePod::new("p").obj();
        status.status = Some(Default::default());
        let info = Arc::new(PodInfo::new(Arc::new(status)));
        bench.queue.put(&bench.framework, info, seconds(5));
        assert_eq!(bench.pop(5), None);
        bench.put(MakePod::new("p").label("a", "b"), 6);
        assert_eq!(bench.pop(6).as_deref(), Some("p"));
    }

    #[test]
    fn removed_pods_leave_no_trace() {
        let mut bench = Bench::new();
        for name in ["active", "flying", "stuck", "gated"] {
            bench.put(MakePod::new(name).priority(i32::from(name != "active")), 0);
        }
        bench.put(MakePod::new("gated").gate("g"), 0);
        assert_eq!(bench.pop(0).as_deref(), Some("flying"));
        assert_eq!(bench.pop(0).as_deref(), Some("stuck"));
        bench.fail("stuck", "NodeName", 0);
        for name in ["active", "flying", "stuck", "gated"] {
            bench.queue.remove(&format!("default/{name}"));
        }
        assert!(bench.queue.is_empty() && bench.queue.next_deadline().is_none());
        bench.fail("flying", "NodeName", 0);
        bench.queue.retry(&bench.framework, "default/flying", seconds(0));
        assert_eq!(bench.pop(1000), None);
    }

    #[test]
    fn a_pod_nobody_rejected_is_helped_by_any_node() {
        let mut bench = Bench::new();
        bench.put(MakePod::new("p"), 0);
        bench.pop(0).unwrap();
        bench.queue.unschedulable("default/p", Vec::new(), seconds(0));
        assert_eq!(bench.event(&ClusterEvent::NodeAdded(&MakeNode::new("a").info()), 5), 1);
        assert_eq!(bench.pop(5).as_deref(), Some("p"));
    }
}
