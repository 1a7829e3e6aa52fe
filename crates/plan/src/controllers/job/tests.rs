//! Tables of Job decisions.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus};

use super::*;
use crate::controllers::testing::{MakePod, at, meta, selector, template};

fn job(parallelism: i32, completions: Option<i32>) -> Job {
    Job {
        metadata: meta("job"),
        spec: Some(JobSpec {
            parallelism: Some(parallelism),
            completions,
            selector: Some(selector(&[("app", "web")])),
            template: template(&[("app", "web")], "v1"),
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn change(mut job: Job, change: impl FnOnce(&mut JobSpec)) -> Job {
    change(job.spec.as_mut().unwrap());
    job
}

fn pod(of: &Job, name: &str, phase: &str) -> MakePod {
    MakePod::new(name)
        .owned_by(of)
        .phase(phase)
        .with(|pod| pod.metadata.finalizers = Some(vec![TRACKING_FINALIZER.into()]))
}

fn released(pod: MakePod) -> MakePod {
    pod.with(|pod| pod.metadata.finalizers = None)
}

fn exited(pod: MakePod, code: i32, finished: i64) -> MakePod {
    let terminated = ContainerStateTerminated {
        exit_code: code,
        finished_at: Some(Time(at(finished))),
        ..ContainerStateTerminated::default()
    };
    let state = ContainerState { terminated: Some(terminated), ..ContainerState::default() };
    let status = ContainerStatus { name: "c".into(), state: Some(state), ..Default::default() };
    pod.with(|pod| pod.status.get_or_insert_default().container_statuses = Some(vec![status]))
}

fn indexed(pod: MakePod, index: u32) -> MakePod {
    pod.annotation(COMPLETION_INDEX, &index.to_string())
}

/// Plans, and gives the Job the status that the plan wrote.
fn step(job: &mut Job, pods: Vec<MakePod>, now: i64) -> (Plan, Vec<String>) {
    let pods = pods.into_iter().map(MakePod::build).collect();
    let plan = plan(&Snapshot { job: Arc::new(job.clone()), pods }, at(now));
    for write in plan.writes() {
        if let Write::Update { object, .. } = write {
            job.status = serde_json::from_value(object["status"].clone()).unwrap();
        }
    }
    let writes = plan.writes().map(|write| format!("{} {}", write.verb(), write.name())).collect();
    (plan, writes)
}

fn conditions(job: &Job) -> Vec<String> {
    let all = job.status.as_ref().and_then(|status| status.conditions.clone());
    let all = all.unwrap_or_default();
    all.iter().map(|one| format!("{} {}", one.type_, one.reason.clone().unwrap())).collect()
}

#[test]
fn pods_are_made_up_to_parallelism_and_what_is_left() {
    for (parallelism, completions, expected) in
        [(3, Some(5), 3), (3, Some(2), 2), (2, None, 2), (0, Some(1), 0)]
    {
        let (plan, writes) = step(&mut job(parallelism, completions), vec![], 10);
        let made = writes.iter().filter(|write| *write == "create job-").count();
        assert_eq!(made, expected);
        assert!(writes.contains(&"update-status job".to_owned()));
        for write in plan.writes() {
            if let Write::Create { object, .. } = write {
                assert_eq!(object["metadata"]["finalizers"][0], TRACKING_FINALIZER);
            }
        }
    }
}

#[test]
fn success_is_recorded_then_released_then_counted_then_complete() {
    let mut one = job(1, Some(1));
    let done = pod(&one, "p", "Succeeded");
    let (_, writes) = step(&mut one, vec![done.clone()], 10);
    assert_eq!(writes, ["update-status job", "patch p"]);
    assert_eq!(conditions(&one), ["SuccessCriteriaMet CompletionsReached"]);
    let status = one.status.clone().unwrap();
    assert_eq!(status.succeeded, None);
    assert_eq!(status.uncounted_terminated_pods.unwrap().succeeded.unwrap(), ["uid-p"]);

    let (_, writes) = step(&mut one, vec![released(done.clone())], 11);
    assert_eq!(writes, ["update-status job"]);
    let status = one.status.clone().unwrap();
    assert_eq!(status.succeeded, Some(1));
    assert!(status.completion_time.is_some());
    assert_eq!(conditions(&one), ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]);
    let (_, writes) = step(&mut one, vec![released(done)], 12);
    assert!(writes.is_empty(), "{writes:?}");
}

#[test]
fn failures_are_retried_with_pauses_up_to_the_limit() {
    let mut one = change(job(1, Some(1)), |spec| spec.backoff_limit = Some(1));
    let first = exited(pod(&one, "a", "Failed"), 1, 100);
    let (plan, writes) = step(&mut one, vec![first.clone()], 101);
    assert_eq!(writes, ["update-status job", "patch a"]);
    assert_eq!(plan.requeue_at, Some(at(110)));
    let (_, writes) = step(&mut one, vec![released(first.clone())], 110);
    assert_eq!(writes, ["update-status job", "create job-"]);
    assert_eq!(one.status.as_ref().unwrap().failed, Some(1));

    let second = exited(pod(&one, "b", "Failed"), 1, 120);
    step(&mut one, vec![released(first.clone()), second.clone()], 121);
    assert_eq!(conditions(&one), ["FailureTarget BackoffLimitExceeded"]);
    step(&mut one, vec![released(first), released(second)], 122);
    assert_eq!(conditions(&one), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
    assert_eq!(one.status.as_ref().unwrap().failed, Some(2));
}

#[test]
fn a_deadline_ends_active_pods_first() {
    let mut one = change(job(1, Some(1)), |spec| spec.active_deadline_seconds = Some(60));
    let running = pod(&one, "p", "Running");
    let (plan, _) = step(&mut one, vec![running.clone()], 10);
    assert_eq!(plan.requeue_at, Some(at(70)));
    let (_, writes) = step(&mut one, vec![running], 70);
    assert_eq!(writes, ["update-status job", "delete p"]);
    assert_eq!(conditions(&one), ["FailureTarget DeadlineExceeded"]);
}

#[test]
fn indexed_jobs_fill_their_gaps() {
    let spec = |spec: &mut JobSpec| spec.completion_mode = Some("Indexed".into());
    let mut three = change(job(2, Some(3)), spec);
    let pods = vec![indexed(pod(&three, "a", "Succeeded"), 0), indexed(pod(&three, "b", "Running"), 2)];
    let (plan, writes) = step(&mut three, pods, 10);
    assert_eq!(writes, ["update-status job", "patch a", "create job-1-"]);
    assert_eq!(three.status.as_ref().unwrap().completed_indexes.as_deref(), Some("0"));
    let Some(Write::Create { object, .. }) = plan.writes().last() else { panic!() };
    assert_eq!(object["spec"]["hostname"], "job-1");
    assert_eq!(object["metadata"]["annotations"][COMPLETION_INDEX], "1");
    let doubled = vec![indexed(pod(&three, "c", "Running"), 1), indexed(pod(&three, "d", "Running"), 1)];
    let (_, writes) = step(&mut three, doubled, 11);
    assert!(writes.contains(&"delete d".to_owned()), "{writes:?}");
}

#[test]
fn failure_policies_ignore_or_end_at_once() {
    let rule = |action: &str, code: i32| PodFailurePolicyRule {
        action: action.into(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: None,
            operator: "In".into(),
            values: vec![code],
        }),
        on_pod_conditions: None,
    };
    let policy = PodFailurePolicy { rules: vec![rule("FailJob", 42), rule("Ignore", 7)] };
    let mut one = change(job(1, Some(1)), |spec| {
        spec.backoff_limit = Some(0);
        spec.pod_failure_policy = Some(policy);
    });
    let ignored = exited(pod(&one, "a", "Failed"), 7, 100);
    step(&mut one, vec![ignored], 200);
    assert!(conditions(&one).is_empty());
    let fatal = exited(pod(&one, "b", "Failed"), 42, 200);
    step(&mut one, vec![fatal], 201);
    assert_eq!(conditions(&one), ["FailureTarget PodFailurePolicy"]);
}

#[test]
fn suspending_ends_pods_and_resuming_starts_anew() {
    let mut one = change(job(1, Some(1)), |spec| spec.suspend = Some(true));
    let running = pod(&one, "p", "Running");
    let (_, writes) = step(&mut one, vec![running], 10);
    assert_eq!(writes, ["update-status job", "delete p"]);
    assert_eq!(conditions(&one), ["Suspended JobSuspended"]);
    one = change(one, |spec| spec.suspend = Some(false));
    let (_, writes) = step(&mut one, vec![], 20);
    assert_eq!(writes, ["update-status job", "create job-"]);
    assert_eq!(one.status.as_ref().unwrap().start_time, Some(Time(at(20))));
}

#[test]
fn a_finished_job_lives_on_for_its_ttl() {
    let mut one = change(job(1, Some(1)), |spec| spec.ttl_seconds_after_finished = Some(30));
    let mut status = JobStatus::default();
    set(&mut status, "Complete", "True", "CompletionsReached", "", at(100));
    one.status = Some(status);
    let (plan, writes) = step(&mut one, vec![], 110);
    assert!(writes.is_empty());
    assert_eq!(plan.requeue_at, Some(at(130)));
    assert_eq!(step(&mut one, vec![], 130).1, ["delete job"]);
}
