//! What the machine has: processors, memory, disk, and what its kernel calls itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::NodeSystemInfo;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The version that this kubelet reports.
const VERSION: &str = "v1.36.0+coracle";

/// What a node can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) cpus: u32,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) pods: u32,
}

impl Capacity {
    /// The machine's capacity; the disk is the one that holds `state_dir`.
    pub(super) fn of_machine(state_dir: &Path, pods: u32) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let disk = rustix::fs::statvfs(state_dir);
        Self {
            cpus: u32::try_from(cpus).unwrap_or(1),
            memory_bytes: memory_bytes(&meminfo).unwrap_or(0),
            disk_bytes: disk.map_or(0, |d| d.f_blocks.saturating_mul(d.f_frsize)),
            pods,
        }
    }

    /// As the Node's status lists it.
    pub(super) fn resources(self) -> BTreeMap<String, Quantity> {
        [
            ("cpu", self.cpus.to_string()),
            ("memory", format!("{}Ki", self.memory_bytes >> 10)),
            ("ephemeral-storage", format!("{}Ki", self.disk_bytes >> 10)),
            ("pods", self.pods.to_string()),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Quantity(text)))
        .collect()
    }
}

/// `kubernetes.io/arch` of this machine, in Go's words.
pub(super) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// What the Node says of its machine and software.
pub(super) fn system_info(container_runtime_version: String) -> NodeSystemInfo {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let kernel = rustix::system::uname();
    let machine_id = line("/etc/machine-id");
    NodeSystemInfo {
        architecture: arch().to_owned(),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version,
        kernel_version: kernel.release().to_string_lossy().into_owned(),
        kube_proxy_version: String::new(),
        kubelet_version: VERSION.to_owned(),
        system_uuid: machine_id.clone(),
        machine_id,
        operating_system: std::env::consts::OS.to_owned(),
        os_image: os_image(&line("/etc/os-release")),
        ..NodeSystemInfo::default()
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|n| n.trim_matches('"').to_owned()).unwrap_or_else(|| std::env::consts::OS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        assert_eq!(memory_bytes("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(memory_bytes("nothing"), None);
        assert_eq!(os_image("ID=x\nPRETTY_NAME=\"Some Linux 1\"\n"), "Some Linux 1");
    }

    #[test]
    fn resources_are_written_as_quantities() {
        let capacity = Capacity { cpus: 2, memory_bytes: 1 << 30, disk_bytes: 1 << 40, pods: 5000 };
        let resources = capacity.resources();
        assert_eq!(resources["memory"].0, "1048576Ki");
        assert_eq!(resources["cpu"].0, "2");
    }
}
