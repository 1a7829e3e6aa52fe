//! The refusal of an application that would change what others own.

use coracle_api::Status;

use super::set::Set;

/// What the application would take from one manager.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    /// The manager, as messages name it.
    pub(super) manager: String,
    pub(super) fields: Set,
}

impl Conflict {
    /// What is left of the conflict when some fields may be taken.
    pub(super) fn without(&self, allowed: &Set) -> Option<Self> {
        let fields = self.fields.difference(allowed);
        (!fields.is_empty()).then(|| Self { manager: self.manager.clone(), fields })
    }
}

/// The 409 that names every manager and field.
pub(super) fn refusal(conflicts: &[Conflict]) -> Status {
    let all: Vec<(&str, String)> = conflicts
        .iter()
        .flat_map(|conflict| {
            conflict.fields.paths().into_iter().map(|path| (conflict.manager.as_str(), path))
        })
        .collect();
    let message = match all.as_slice() {
        [(manager, path)] => format!("Apply failed with 1 conflict: conflict with {manager}: {path}"),
        _ => {
            let of = |conflict: &Conflict| {
                let paths: String =
                    conflict.fields.paths().iter().map(|path| format!("\n- {path}")).collect();
                format!("conflicts with {}:{paths}", conflict.manager)
            };
            let lines: Vec<String> = conflicts.iter().map(of).collect();
            format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
        }
    };
    let status = Status::failure(409, "Conflict", message);
    all.into_iter().fold(status, |status, (manager, path)| {
        status.with_cause("FieldManagerConflict", format!("conflict with {manager}"), path)
    })
}
