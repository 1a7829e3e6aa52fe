//! What a pod asks for that this kubelet does not carry out yet, so that nobody has to find
//! out by watching it not happen.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The fields of `spec` that have no effect here, as paths with what is missing. Empty for a
/// pod that gets all it asks for.
#[must_use]
pub fn without_effect(spec: &PodSpec) -> Vec<String> {
    let mut found = Vec::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let Some(empty_dir) = &volume.empty_dir else { continue };
        if empty_dir.medium.as_deref().is_some_and(|m| !m.is_empty()) {
            found.push(format!("spec.volumes[{index}].emptyDir.medium: the volume is on disk"));
        }
        if empty_dir.size_limit.is_some() {
            found.push(format!("spec.volumes[{index}].emptyDir.sizeLimit: not enforced"));
        }
    }
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        of_container(container, &format!("spec.initContainers[{index}]"), &mut found);
    }
    for (index, container) in spec.containers.iter().enumerate() {
        of_container(container, &format!("spec.containers[{index}]"), &mut found);
    }
    found
}

fn of_container(container: &Container, path: &str, found: &mut Vec<String>) {
    if let Some(lifecycle) = &container.lifecycle {
        if lifecycle.post_start.is_some() {
            found.push(format!("{path}.lifecycle.postStart: not run"));
        }
        if lifecycle.pre_stop.is_some() {
            found.push(format!("{path}.lifecycle.preStop: not run"));
        }
    }
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    if limits.is_some_and(|l| l.contains_key("cpu")) {
        found.push(format!("{path}.resources.limits.cpu: not enforced"));
    }
    if container.stdin == Some(true) || container.tty == Some(true) {
        found.push(format!("{path}.stdin, tty: standard input is closed"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_ordinary_pod_gets_all_it_asks_for() {
        let spec = spec(json!({
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Mi"}}}],
        }));
        assert_eq!(without_effect(&spec), Vec::<String>::new());
    }

    #[test]
    fn every_field_without_effect_is_named() {
        let spec = spec(json!({
            "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
            "initContainers": [{"name": "i", "lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}],
            "containers": [{"name": "c", "tty": true, "resources": {"limits": {"cpu": "1"}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}],
        }));
        let paths: Vec<String> = without_effect(&spec)
            .iter()
            .map(|f| f.split(':').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            paths,
            [
                "spec.volumes[0].emptyDir.medium",
                "spec.volumes[0].emptyDir.sizeLimit",
                "spec.initContainers[0].lifecycle.postStart",
                "spec.containers[0].lifecycle.preStop",
                "spec.containers[0].resources.limits.cpu",
                "spec.containers[0].stdin, tty",
            ]
        );
    }
}
