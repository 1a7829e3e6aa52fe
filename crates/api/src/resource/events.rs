//! Group `events.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::namespaced;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![namespaced("events.k8s.io", "v1", "events", "event", "Event").short(&["ev"]).columns(&[
        ("Last Seen", "string", "", 0),
        ("Type", "string", "", 0),
        ("Reason", "string", "", 0),
        ("Object", "string", "", 0),
        ("Subobject", "string", "", 1),
        ("Source", "string", "", 1),
        ("Message", "string", "", 0),
        ("First Seen", "string", "", 1),
        ("Count", "string", "", 1),
        ("Name", "string", "name", 1),
    ])]
}
