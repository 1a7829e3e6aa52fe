//! Events, of both groups that show them. The core form demands little: the events of old
//! clients are taken as they are.

use coracle_api::{FieldError, FieldErrors, meta};
use serde_json::Value;

use super::Kind;
use crate::view::{has, text};

const FIELDS: [&str; 12] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
    "regarding.name",
];

/// `core/v1` and `events.k8s.io/v1 Event`.
pub(super) struct Event;

impl Kind for Event {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let about = if has(object, "regarding") { "regarding" } else { "involvedObject" };
        let (own, other) = (meta::namespace(object), text(object, &format!("{about}.namespace")));
        let fits = if other.is_empty() { own == "default" } else { own == other };
        if !fits {
            let why = "does not match event.namespace";
            errors.push(FieldError::invalid(format!("{about}.namespace"), other, why));
        }
    }

    fn field_names(&self) -> &'static [&'static str] {
        &FIELDS
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let regarding = !has(object, "involvedObject");
        let value = |name: &str| -> String {
            match (name, name.strip_prefix("involvedObject")) {
                ("source", _) if has(object, "source.component") => {
                    text(object, "source.component").to_owned()
                }
                ("source", _) => text(object, "reportingComponent").to_owned(),
                (_, Some(rest)) if regarding => text(object, &format!("regarding{rest}")).to_owned(),
                _ => text(object, name).to_owned(),
            }
        };
        FIELDS.into_iter().map(|name| (name, value(name))).collect()
    }
}
