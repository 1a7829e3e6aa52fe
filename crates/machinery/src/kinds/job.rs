//! `batch/v1 Job`: its selector and the labels of its pods come from its uid, unless
//! `manualSelector` says that the client made them.

use coracle_api::{FieldError, FieldErrors, FieldPath, meta, names};
use serde_json::{Map, Value, json};

use super::{Kind, check, selector, template};
use crate::view::{at, flag, has, int, list, map, object_mut, set_default, text};

const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// Rules that a pod failure policy may have.
const FAILURE_RULES_MAX: usize = 20;

/// `batch/v1 Job`.
pub(super) struct Job;

impl Kind for Job {
    fn default(&self, object: &mut Value) {
        let labels: Map<String, Value> =
            map(object, "spec.template.metadata.labels").cloned().unwrap_or_default();
        if !labels.is_empty()
            && let Some(own) = object_mut(object, "metadata.labels").filter(|own| own.is_empty())
        {
            own.extend(labels);
        }
        let Some(spec) = object.get_mut("spec") else { return };
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
        let failure_policy = has(spec, "podFailurePolicy");
        let Some(spec) = spec.as_object_mut() else { return };
        let absent = |spec: &Map<String, Value>, name: &str| spec.get(name).is_none_or(Value::is_null);
        if absent(spec, "completions") && absent(spec, "parallelism") {
            spec.insert("completions".to_owned(), 1.into());
        }
        set_default(spec, "parallelism", || 1.into());
        let per_index = !absent(spec, "backoffLimitPerIndex");
        set_default(spec, "backoffLimit", || if per_index { i64::from(i32::MAX).into() } else { 6.into() });
        set_default(spec, "completionMode", || "NonIndexed".into());
        set_default(spec, "suspend", || false.into());
        set_default(spec, "manualSelector", || false.into());
        let replacement = if failure_policy { "Failed" } else { "TerminatingOrFailed" };
        set_default(spec, "podReplacementPolicy", || replacement.into());
    }

    fn identify(&self, object: &mut Value) {
        if flag(object, "spec.manualSelector") {
            return;
        }
        let (name, uid) = (meta::name(object).to_owned(), meta::uid(object).to_owned());
        let given = map(object, "spec.template.metadata.labels").cloned().unwrap_or_default();
        if let Some(labels) = object_mut(object, "spec.template.metadata.labels") {
            for label in UID_LABELS {
                labels.insert(label.to_owned(), uid.as_str().into());
            }
            for label in NAME_LABELS {
                labels.insert(label.to_owned(), name.as_str().into());
            }
        }
        // A job that took its labels from its template takes these too.
        let whole = map(object, "spec.template.metadata.labels").cloned().unwrap_or_default();
        if !given.is_empty()
            && let Some(own) = object_mut(object, "metadata.labels").filter(|own| **own == given)
        {
            own.extend(whole);
        }
        if let Some(spec) = object_mut(object, "spec") {
            let labels = json!({ UID_LABELS[0]: uid });
            set_default(spec, "selector", || json!({ "matchLabels": labels }));
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec");
        validate_spec(at(object, "spec"), &path, errors);
        if flag(object, "spec.manualSelector") {
            selector::workload(at(object, "spec"), &path, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let elastic = text(old, "spec.completionMode") == "Indexed"
            && int(new, "spec.completions") == int(new, "spec.parallelism");
        if !elastic {
            check::immutable(new, old, "spec.completions", errors);
        }
        check::immutable(new, old, "spec.selector", errors);
        // The scheduling of a job that has not started may still be chosen.
        let unstarted = flag(old, "spec.suspend") && !has(old, "status.startTime");
        if !(unstarted && without_scheduling(new) == without_scheduling(old)) {
            check::immutable(new, old, "spec.template", errors);
        }
        for name in
            ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
        {
            check::immutable(new, old, &format!("spec.{name}"), errors);
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.successful", int(object, "status.succeeded").unwrap_or_default().to_string())]
    }
}

fn without_scheduling(object: &Value) -> Value {
    let mut template = at(object, "spec.template").clone();
    if let Some(spec) = object_mut(&mut template, "spec") {
        for name in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
            spec.remove(name);
        }
    }
    if let Some(metadata) = object_mut(&mut template, "metadata") {
        metadata.remove("labels");
        metadata.remove("annotations");
    }
    template
}

/// The rules of a job's spec, of a Job or in a CronJob's template.
pub(super) fn validate_spec(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
        "ttlSecondsAfterFinished",
    ] {
        check::not_negative(spec, name, path, errors);
    }
    check::one_of(spec, "completionMode", &["Indexed", "NonIndexed"], path, errors);
    check::one_of(spec, "podReplacementPolicy", &["Failed", "TerminatingOrFailed"], path, errors);
    let indexed = text(spec, "completionMode") == "Indexed";
    if indexed && !has(spec, "completions") {
        let why = "when completion mode is Indexed";
        errors.push(FieldError::required(path.child("completions"), why));
    }
    if !indexed && has(spec, "backoffLimitPerIndex") {
        let why = "requires indexed completion mode";
        let value = at(spec, "backoffLimitPerIndex").clone();
        errors.push(FieldError::invalid(path.child("backoffLimitPerIndex"), value, why));
    }
    let manager = text(spec, "managedBy");
    if !manager.is_empty() {
        check::all(manager, names::qualified_name(manager), &path.child("managedBy"), errors);
    }
    let rules = list(spec, "podFailurePolicy.rules").len();
    if rules > FAILURE_RULES_MAX {
        let policy = path.child("podFailurePolicy");
        errors.push(FieldError::too_many(policy.child("rules"), rules, FAILURE_RULES_MAX));
    }
    let at_template = path.child("template");
    template::validate(at(spec, "template"), &at_template, errors);
    let at_spec = at_template.child("spec");
    let policy = text(spec, "template.spec.restartPolicy");
    if policy == "Always" || policy.is_empty() {
        let place = at_spec.child("restartPolicy");
        if policy.is_empty() {
            errors.push(FieldError::required(place, "valid values: \"OnFailure\", \"Never\""));
        } else {
            errors.push(FieldError::not_supported(place, policy, &["OnFailure", "Never"]));
        }
    }
    if has(spec, "podFailurePolicy") && policy == "OnFailure" {
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(FieldError::invalid(at_spec.child("restartPolicy"), policy, why));
    }
}
