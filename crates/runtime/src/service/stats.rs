//! Statistics: CPU time as the guests' threads counted it, memory as their linear
//! memories and tables hold it.

use coracle_cri::runtime::v1 as cri;

use crate::node::{Container, Sandbox, now_ns};

/// Names of the metrics that ListPodSandboxMetrics reports.
const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_usage_bytes";
const MEMORY_PEAK: &str = "container_memory_max_usage_bytes";

pub(super) fn container(container: &Container) -> cri::ContainerStats {
    cri::ContainerStats {
        attributes: Some(cri::ContainerAttributes {
            id: container.id.clone(),
            metadata: container.config.metadata.clone(),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
        }),
        cpu: Some(cpu(container.account.cpu_ns())),
        memory: Some(memory(container.account.memory_bytes(), container.account.memory_limit())),
        writable_layer: None,
        swap: None,
        io: None,
    }
}

pub(super) fn sandbox(sandbox: &Sandbox) -> cri::PodSandboxStats {
    let members = sandbox.containers();
    let running = members.iter().filter(|member| member.is_running());
    let cpu_ns = members.iter().map(|member| member.account.cpu_ns()).sum();
    let bytes = members.iter().map(|member| member.account.memory_bytes()).sum();
    let processes = running.clone().count() as u64;
    cri::PodSandboxStats {
        attributes: Some(cri::PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
        }),
        linux: Some(cri::LinuxPodSandboxStats {
            cpu: Some(cpu(cpu_ns)),
            memory: Some(memory(bytes, None)),
            network: None,
            process: Some(cri::ProcessUsage {
                timestamp: now_ns(),
                process_count: Some(cri::UInt64Value { value: processes }),
            }),
            containers: running.map(|member| container(member)).collect(),
            io: None,
        }),
        windows: None,
    }
}

fn cpu(ns: u64) -> cri::CpuUsage {
    cri::CpuUsage {
        timestamp: now_ns(),
        usage_core_nano_seconds: Some(cri::UInt64Value { value: ns }),
        // A rate needs two samples, which are the reader's.
        usage_nano_cores: None,
        psi: None,
    }
}

fn memory(bytes: u64, limit: Option<u64>) -> cri::MemoryUsage {
    let value = |value| Some(cri::UInt64Value { value });
    cri::MemoryUsage {
        timestamp: now_ns(),
        working_set_bytes: value(bytes),
        available_bytes: limit.and_then(|limit| value(limit.saturating_sub(bytes))),
        usage_bytes: value(bytes),
        rss_bytes: None,
        page_faults: None,
        major_page_faults: None,
        psi: None,
    }
}

pub(super) fn descriptors() -> Vec<cri::MetricDescriptor> {
    let row = |name: &str, help: &str| cri::MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: Vec::new(),
    };
    vec![
        row(CPU, "CPU time of the container's guests, in whole seconds."),
        row(MEMORY, "Bytes that the container's guests hold now."),
        row(MEMORY_PEAK, "Most bytes that the container's guests held at a time."),
    ]
}

pub(super) fn metrics(sandbox: &Sandbox) -> cri::PodSandboxMetrics {
    let containers = sandbox.containers();
    cri::PodSandboxMetrics {
        pod_sandbox_id: sandbox.id.clone(),
        metrics: Vec::new(),
        container_metrics: containers.iter().map(|container| container_metrics(container)).collect(),
    }
}

fn container_metrics(container: &Container) -> cri::ContainerMetrics {
    let row = |name: &str, metric_type: cri::MetricType, value| cri::Metric {
        name: name.to_owned(),
        // Gathered now.
        timestamp: 0,
        metric_type: metric_type.into(),
        label_values: Vec::new(),
        value: Some(cri::UInt64Value { value }),
    };
    let account = &container.account;
    cri::ContainerMetrics {
        container_id: container.id.clone(),
        metrics: vec![
            row(CPU, cri::MetricType::Counter, account.cpu_ns() / 1_000_000_000),
            row(MEMORY, cri::MetricType::Gauge, account.memory_bytes()),
            row(MEMORY_PEAK, cri::MetricType::Gauge, account.memory_peak_bytes()),
        ],
    }
}
