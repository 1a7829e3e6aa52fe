//! Probe book-keeping: when a probe is due and what its results amount to.
//!
//! Counting follows kubelets: a verdict changes after `successThreshold` or
//! `failureThreshold` equal results in a row; liveness and readiness wait for the startup
//! probe. One deliberate difference: in the first second of a container's life a refused
//! connection does not count and is tried again within milliseconds ([`warm_up_ms`]), so
//! that a server that listens a moment after it started is Ready at once and not a whole
//! period later.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};

use super::backoff::{add_seconds, go_duration};

/// How long after a container's start a refused connection does not count, in milliseconds.
pub const WARM_UP_MS: i64 = 1000;
/// The first and the longest pause between attempts while a container warms up, in
/// milliseconds.
const WARM_UP_PAUSE_MS: (i64, i64) = (4, 200);

/// Which question a probe answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Has the container come up?
    Startup,
    /// Must the container be restarted?
    Liveness,
    /// May the container get traffic?
    Readiness,
}

impl ProbeKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// As events spell it: `Liveness`.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The probe of this kind that `container` declares.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// A probe's numbers with Kubernetes' defaults filled in; all at least what makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Seconds from the container's start to the first run.
    pub initial_delay_s: i64,
    /// Seconds between runs.
    pub period_s: i64,
    /// Seconds that one run may take.
    pub timeout_s: u64,
    /// Successes in a row that turn the verdict good.
    pub success_threshold: u32,
    /// Failures in a row that turn the verdict bad.
    pub failure_threshold: u32,
}

impl Timing {
    /// The timing of `probe`.
    pub fn of(probe: &Probe) -> Self {
        let at_least_one = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Self {
            initial_delay_s: i64::from(probe.initial_delay_seconds.unwrap_or(0).max(0)),
            period_s: i64::from(at_least_one(probe.period_seconds, 10)),
            timeout_s: u64::from(at_least_one(probe.timeout_seconds, 1)),
            success_threshold: at_least_one(probe.success_threshold, 1),
            failure_threshold: at_least_one(probe.failure_threshold, 3),
        }
    }

    /// When the probe runs next.
    pub fn next_run(&self, started_at: Timestamp, last_run: Option<Timestamp>) -> Timestamp {
        match last_run {
            Some(last) => add_seconds(last, self.period_s),
            None => add_seconds(started_at, self.initial_delay_s),
        }
    }
}

/// The pause before attempt number `attempt` (from 0) of a probe whose connection was
/// refused `age_ms` after the container's start; `None` once refusals count.
pub fn warm_up_ms(attempt: u32, age_ms: i64) -> Option<i64> {
    let (first, longest) = WARM_UP_PAUSE_MS;
    (age_ms < WARM_UP_MS).then(|| (first << attempt.min(8)).min(longest))
}

/// The results of one probe of one running container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeState {
    /// What holds now; `None` before the first verdict.
    pub verdict: Option<bool>,
    last: Option<bool>,
    in_a_row: u32,
}

impl ProbeState {
    /// Counts a result; the verdict if it has just changed.
    pub fn record(&mut self, success: bool, timing: &Timing) -> Option<bool> {
        if self.last == Some(success) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            self.last = Some(success);
            self.in_a_row = 1;
        }
        let threshold = if success { timing.success_threshold } else { timing.failure_threshold };
        if self.in_a_row < threshold || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        self.verdict
    }
}

/// The probes of one running container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerProbes {
    /// Present when declared.
    pub startup: Option<ProbeState>,
    /// Present when declared.
    pub liveness: Option<ProbeState>,
    /// Present when declared.
    pub readiness: Option<ProbeState>,
    /// Set when a verdict asks for the container's restart.
    pub restart: Option<Restart>,
}

/// Why probes want a container restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// The probe that failed.
    pub kind: ProbeKind,
    /// The probe's own terminationGracePeriodSeconds.
    pub grace_s: Option<i64>,
}

impl ContainerProbes {
    /// The probes of a container that starts now, or, with `ready` and `started` from its
    /// stored status, of one that was running before this kubelet did.
    pub fn new(container: &Container, ready: bool, started: bool) -> Self {
        let state = |declared: bool, known: bool| {
            declared.then(|| ProbeState { verdict: known.then_some(true), ..Default::default() })
        };
        Self {
            startup: state(container.startup_probe.is_some(), started),
            liveness: state(container.liveness_probe.is_some(), false),
            readiness: state(container.readiness_probe.is_some(), ready),
            restart: None,
        }
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.startup.is_none() && self.liveness.is_none() && self.readiness.is_none()
    }

    /// Whether the container counts as started.
    pub fn started(&self) -> bool {
        self.startup.is_none_or(|s| s.verdict == Some(true))
    }

    /// Whether the container may get traffic.
    pub fn ready(&self) -> bool {
        self.started() && self.readiness.is_none_or(|s| s.verdict == Some(true))
    }

    /// Whether a probe of `kind` should run now at all: startup until it has succeeded,
    /// the others from then on, none once a restart is wanted.
    pub fn wants(&self, kind: ProbeKind) -> bool {
        if self.restart.is_some() {
            return false;
        }
        match kind {
            ProbeKind::Startup => self.startup.is_some() && !self.started(),
            ProbeKind::Liveness => self.liveness.is_some() && self.started(),
            ProbeKind::Readiness => self.readiness.is_some() && self.started(),
        }
    }

    /// Counts a result of `probe`; whether anything that others look at has changed.
    pub fn record(&mut self, kind: ProbeKind, probe: &Probe, success: bool) -> bool {
        let state = match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Liveness => &mut self.liveness,
            ProbeKind::Readiness => &mut self.readiness,
        };
        let Some(state) = state else { return false };
        let Some(verdict) = state.record(success, &Timing::of(probe)) else { return false };
        if !verdict && kind != ProbeKind::Readiness {
            let grace_s = probe.termination_grace_period_seconds;
            self.restart = Some(Restart { kind, grace_s });
        }
        true
    }
}

/// The message of a probe that did not answer in time.
pub fn timeout_message(timing: &Timing) -> String {
    let seconds = i64::try_from(timing.timeout_s).unwrap_or(i64::MAX);
    format!("context deadline exceeded: no answer within {}", go_duration(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(success: i32, failure: i32) -> Probe {
        Probe { success_threshold: Some(success), failure_threshold: Some(failure), ..Default::default() }
    }

    #[test]
    fn verdicts_need_their_threshold_in_a_row() {
        let timing = Timing::of(&probe(2, 3));
        let mut state = ProbeState::default();
        let results = [true, false, true, true, false, false, true, false, false, false, false];
        let changes: Vec<_> = results.iter().map(|r| state.record(*r, &timing)).collect();
        let expected = [None, None, None, Some(true), None, None, None, None, None, Some(false), None];
        assert_eq!(changes, expected);
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        let expected = Timing {
            initial_delay_s: 0,
            period_s: 10,
            timeout_s: 1,
            success_threshold: 1,
            failure_threshold: 3,
        };
        assert_eq!(Timing::of(&Probe::default()), expected);
        assert_eq!(Timing::of(&probe(0, -1)), expected);
    }

    #[test]
    fn startup_goes_first_and_its_failure_restarts() {
        let container = Container {
            startup_probe: Some(probe(1, 1)),
            liveness_probe: Some(probe(1, 1)),
            readiness_probe: Some(probe(1, 1)),
            ..Default::default()
        };
        let mut probes = ContainerProbes::new(&container, false, false);
        assert!(probes.wants(ProbeKind::Startup) && !probes.wants(ProbeKind::Liveness));
        assert!(probes.record(ProbeKind::Startup, &probe(1, 1), true));
        assert!(!probes.wants(ProbeKind::Startup) && probes.wants(ProbeKind::Readiness));
        assert!(probes.started() && !probes.ready());
        assert!(probes.record(ProbeKind::Readiness, &probe(1, 1), true));
        assert!(probes.ready());
        assert!(probes.record(ProbeKind::Liveness, &probe(1, 1), false));
        assert_eq!(probes.restart.as_ref().map(|r| r.kind), Some(ProbeKind::Liveness));
        assert!(ProbeKind::ALL.iter().all(|kind| !probes.wants(*kind)));
    }

    #[test]
    fn warming_up_is_short_and_quick() {
        assert_eq!(warm_up_ms(0, 0), Some(4));
        assert_eq!(warm_up_ms(3, 60), Some(32));
        assert_eq!(warm_up_ms(30, 999), Some(200));
        assert_eq!(warm_up_ms(0, 1000), None);
    }
}
