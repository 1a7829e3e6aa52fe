//! `batch/v1 CronJob`.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use jiff::tz::TimeZoneDatabase;
use serde_json::Value;

use super::{Kind, check, cron, job, template};
use crate::view::{at, has, text};

/// The longest name, so that the names of its jobs fit into a label.
const NAME_BYTES_MAX: usize = 52;

/// `batch/v1 CronJob`.
pub(super) struct CronJob;

impl Kind for CronJob {
    fn default(&self, object: &mut Value) {
        let template = object.pointer_mut("/spec/jobTemplate/spec/template");
        if let Some(template) = template {
            template::default(template);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        let schedule = check::required(spec, "schedule", &path, errors);
        if !schedule.is_empty() {
            if let Err(why) = cron::check(schedule) {
                errors.push(FieldError::invalid(path.child("schedule"), schedule, why));
            }
            if schedule.contains("TZ") {
                let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.push(FieldError::invalid(path.child("schedule"), schedule, why));
            }
        }
        if has(spec, "timeZone") {
            let zone = text(spec, "timeZone");
            let place = path.child("timeZone");
            if zone.is_empty() {
                errors.push(FieldError::invalid(place, zone, "timeZone must be nil or non-empty string"));
            } else if zone.eq_ignore_ascii_case("local") {
                errors.push(FieldError::invalid(
                    place,
                    zone,
                    "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                ));
            } else if TimeZoneDatabase::bundled().get(zone).is_err() {
                errors.push(FieldError::invalid(place, zone, format!("unknown time zone {zone}")));
            }
        }
        check::one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &path, errors);
        for name in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            check::not_negative(spec, name, &path, errors);
        }
        let at_template = path.child("jobTemplate");
        job::validate_spec(at(spec, "jobTemplate.spec"), &at_template.child("spec"), errors);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn name_errors(&self, name: &str) -> Vec<String> {
        let mut errors = names::dns1123_subdomain(name);
        if name.len() > NAME_BYTES_MAX {
            errors.push(format!("must be no more than {NAME_BYTES_MAX} characters"));
        }
        errors
    }
}
