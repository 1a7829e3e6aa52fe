//! Group `batch`: its rows of the resource table.

use super::Resource;
use super::build::namespaced;

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("batch", "v1", "cronjobs", "cronjob", "CronJob")
            .short(&["cj"])
            .category(&["all"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Schedule", "string", "", 0),
                ("Timezone", "string", "", 0),
                ("Suspend", "boolean", "", 0),
                ("Active", "integer", "", 0),
                ("Last Schedule", "string", "", 0),
                ("Age", "string", "", 0),
                ("Containers", "string", "", 1),
                ("Images", "string", "", 1),
                ("Selector", "string", "", 1),
            ]),
        namespaced("batch", "v1", "jobs", "job", "Job").category(&["all"]).status().columns(&[
            ("Name", "string", "name", 0),
            ("Status", "string", "", 0),
            ("Completions", "string", "", 0),
            ("Duration", "string", "", 0),
            ("Age", "string", "", 0),
            ("Containers", "string", "", 1),
            ("Images", "string", "", 1),
            ("Selector", "string", "", 1),
        ]),
    ]
}
