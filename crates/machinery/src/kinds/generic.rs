//! Kinds without rules of their own: what can differ among them is whether they have a status
//! and whether their generation counts.

use serde_json::Value;

use super::Kind;

/// A kind known by its traits only.
pub(super) struct Generic {
    status: bool,
    generation: bool,
}

/// Neither.
pub(super) static PLAIN: Generic = Generic { status: false, generation: false };
/// A status that is written apart.
pub(super) static STATUS: Generic = Generic { status: true, generation: false };
/// A generation that counts.
pub(super) static GENERATION: Generic = Generic { status: false, generation: true };
/// Both.
pub(super) static STATUS_AND_GENERATION: Generic = Generic { status: true, generation: true };

impl Kind for Generic {
    fn has_status(&self) -> bool {
        self.status
    }

    fn has_generation(&self) -> bool {
        self.generation
    }

    fn is_changed(&self, new: &Value, old: &Value) -> bool {
        super::lifecycle::differs(new, old)
    }
}
