//! The filters of list requests: every field that is set must match.

use std::collections::HashMap;

use coracle_cri::runtime::v1 as cri;

use crate::node::{Container, Sandbox};

pub(super) fn sandbox(filter: Option<&cri::PodSandboxFilter>, sandbox: &Sandbox) -> bool {
    filter.is_none_or(|filter| {
        id(&filter.id, &sandbox.id)
            && filter.state.as_ref().is_none_or(|wanted| wanted.state() == sandbox.state())
            && labels(&filter.label_selector, &sandbox.config.labels)
    })
}

pub(super) fn container(filter: Option<&cri::ContainerFilter>, container: &Container) -> bool {
    filter.is_none_or(|filter| {
        id(&filter.id, &container.id)
            && id(&filter.pod_sandbox_id, &container.sandbox_id)
            && filter.state.as_ref().is_none_or(|wanted| wanted.state() == container.state())
            && labels(&filter.label_selector, &container.config.labels)
    })
}

pub(super) fn container_stats(filter: Option<&cri::ContainerStatsFilter>, container: &Container) -> bool {
    filter.is_none_or(|filter| {
        id(&filter.id, &container.id)
            && id(&filter.pod_sandbox_id, &container.sandbox_id)
            && labels(&filter.label_selector, &container.config.labels)
    })
}

pub(super) fn sandbox_stats(filter: Option<&cri::PodSandboxStatsFilter>, sandbox: &Sandbox) -> bool {
    filter.is_none_or(|filter| {
        id(&filter.id, &sandbox.id) && labels(&filter.label_selector, &sandbox.config.labels)
    })
}

/// By the beginning of the id, as command line tools give it.
fn id(wanted: &str, id: &str) -> bool {
    id.starts_with(wanted)
}

fn labels(wanted: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
