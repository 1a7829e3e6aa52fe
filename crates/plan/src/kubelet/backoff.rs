//! When something that failed may be tried again.
//!
//! Two shapes: a [`CrashLoop`] counts from the moment a container ended, as kubelets do
//! (the first restart is immediate); a [`Failure`] counts from the failed attempt.

use jiff::{SignedDuration, Timestamp};

use super::reason;

/// How delays grow: `initial_s`, doubled at every failure, never above `max_s`. After
/// twice `max_s` without a failure the growth starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// First delay, in seconds.
    pub initial_s: i64,
    /// Longest delay, in seconds.
    pub max_s: i64,
}

/// Restarts of a container: 10 s to 5 min, reset after 10 min.
pub const CRASH_LOOP: Rule = Rule { initial_s: 10, max_s: 300 };
/// Pulls of an image: 10 s to 5 min.
pub const IMAGE_PULL: Rule = Rule { initial_s: 10, max_s: 300 };
/// Configuration that a user repairs by hand (a missing ConfigMap): short, so that the
/// repair shows soon.
pub const CONFIG: Rule = Rule { initial_s: 2, max_s: 20 };
/// Containers that the runtime refuses: what is wrong with an image rarely heals.
pub const CREATE: Rule = Rule { initial_s: 5, max_s: 300 };
/// Volumes.
pub const MOUNT: Rule = Rule { initial_s: 1, max_s: 120 };
/// Pod sandboxes.
pub const SANDBOX: Rule = Rule { initial_s: 1, max_s: 60 };
/// Writes to the API server.
pub const API: Rule = Rule { initial_s: 1, max_s: 30 };

/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`, in seconds.
pub const PULL_ERROR_SHOWN_S: i64 = 2;

/// The rule that failures of this reason follow.
pub fn rule_of(why: &str) -> Rule {
    match why {
        reason::ERR_IMAGE_PULL | reason::IMAGE_INSPECT_ERROR => IMAGE_PULL,
        reason::CREATE_CONTAINER_ERROR | reason::RUN_CONTAINER_ERROR => CREATE,
        reason::FAILED_MOUNT => MOUNT,
        reason::FAILED_CREATE_POD_SANDBOX => SANDBOX,
        _ => CONFIG,
    }
}

impl Rule {
    /// The delay that follows a delay of `previous_s` whose failure was at `before`.
    fn next_s(self, previous_s: i64, before: Timestamp, at: Timestamp) -> i64 {
        if seconds_between(before, at) > self.max_s.saturating_mul(2) {
            self.initial_s
        } else {
            previous_s.saturating_mul(2).min(self.max_s)
        }
    }
}

/// An attempt that failed, why, and when the next one is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// A constant of [`reason`].
    pub reason: &'static str,
    /// What went wrong, for the user.
    pub message: String,
    /// When it failed.
    pub failed_at: Timestamp,
    /// The delay before the next attempt, in seconds.
    pub delay_s: i64,
    /// When the next attempt is due.
    pub retry_at: Timestamp,
}

impl Failure {
    /// A failure at `at`, after `previous` if that was the same kind of failure.
    pub fn after(
        previous: Option<&Self>,
        rule: Rule,
        why: &'static str,
        message: String,
        at: Timestamp,
    ) -> Self {
        let delay_s = match previous {
            Some(p) if p.reason == why => rule.next_s(p.delay_s, p.failed_at, at),
            _ => rule.initial_s,
        };
        Self { reason: why, message, failed_at: at, delay_s, retry_at: add_seconds(at, delay_s) }
    }

    /// Whether the next attempt is still ahead.
    pub fn waits(&self, now: Timestamp) -> bool {
        now < self.retry_at
    }
}

/// The restarts of one container so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashLoop {
    /// The pause that the next end of the container is followed by, in seconds.
    pub delay_s: i64,
    /// When the container was last restarted.
    pub restarted_at: Timestamp,
}

impl CrashLoop {
    /// The state after a restart at `now` of a container that had ended at `finished`.
    pub fn restarted(previous: Option<&Self>, finished: Timestamp, now: Timestamp) -> Self {
        let delay_s = match previous {
            Some(p) => CRASH_LOOP.next_s(p.delay_s, p.restarted_at, finished),
            None => CRASH_LOOP.initial_s,
        };
        Self { delay_s, restarted_at: now }
    }

    /// When a container that ended at `finished` may start again; `None` for at once.
    pub fn restart_at(&self, finished: Timestamp) -> Option<Timestamp> {
        let healthy_s = seconds_between(self.restarted_at, finished);
        (healthy_s <= CRASH_LOOP.max_s * 2).then(|| add_seconds(finished, self.delay_s))
    }
}

/// Whole seconds from `a` to `b`, negative when `b` is earlier.
pub fn seconds_between(a: Timestamp, b: Timestamp) -> i64 {
    b.as_second().saturating_sub(a.as_second())
}

/// `at` plus whole seconds, held inside the range of time stamps.
pub fn add_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// `at` plus milliseconds, held inside the range of time stamps.
pub fn add_millis(at: Timestamp, millis: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_millis(millis)).unwrap_or(Timestamp::MAX)
}

/// Seconds as Go prints a duration (`10s`, `1m20s`, `5m0s`), which is what users know from
/// these messages.
pub fn go_duration(seconds: i64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn crash_loops_double_to_five_minutes_and_reset_after_ten() {
        let mut now = at(0);
        let mut state: Option<CrashLoop> = None;
        let mut delays = Vec::new();
        for _ in 0..7 {
            let next = CrashLoop::restarted(state.as_ref(), now, now);
            delays.push(next.delay_s);
            now = next.restart_at(now).unwrap();
            state = Some(next);
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        let calm = add_seconds(now, 601);
        assert_eq!(state.unwrap().restart_at(calm), None);
        assert_eq!(CrashLoop::restarted(state.as_ref(), calm, calm).delay_s, 10);
    }

    #[test]
    fn failures_of_another_kind_start_over() {
        let first = Failure::after(None, IMAGE_PULL, reason::ERR_IMAGE_PULL, "x".into(), at(0));
        assert_eq!((first.delay_s, first.retry_at), (10, at(10)));
        let second = Failure::after(Some(&first), IMAGE_PULL, reason::ERR_IMAGE_PULL, "x".into(), at(10));
        assert_eq!(second.delay_s, 20);
        assert!(second.waits(at(29)) && !second.waits(at(30)));
        let other = Failure::after(Some(&second), CREATE, reason::CREATE_CONTAINER_ERROR, "x".into(), at(30));
        assert_eq!(other.delay_s, CREATE.initial_s);
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3661, "1h1m1s")] {
            assert_eq!(go_duration(seconds), text);
        }
    }
}
