//! After a restart: what the last process left, as CRI is to report it. Sandboxes keep
//! their addresses; containers that ran are exited, since their guests went with the
//! process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ipnet::IpNet;

use super::containers::log_path;
use super::{Container, Node, Sandbox, now_ns, sandbox_name};
use crate::exit::Exit;
use crate::record::{ContainerRecord, SandboxRecord};

impl Node {
    pub(super) fn restore(&self) {
        if let Some(cidr) = self.records.pod_cidr().and_then(|text| text.parse::<IpNet>().ok()) {
            self.fabric.set_pod_cidr(cidr);
            self.has_pod_cidr.store(true, Ordering::Release);
        }
        let sandboxes: BTreeMap<_, _> = self
            .records
            .sandboxes()
            .into_iter()
            .map(|record| (record.id.clone(), Arc::new(self.restore_sandbox(record))))
            .collect();
        let containers: BTreeMap<_, _> = self
            .records
            .containers()
            .into_iter()
            .filter_map(|record| {
                let Some(sandbox) = sandboxes.get(&record.sandbox_id) else {
                    self.records.remove_container(&record.id);
                    return None;
                };
                let container = Arc::new(self.restore_container(sandbox, record));
                sandbox.members.lock().push(Arc::clone(&container));
                Some((container.id.clone(), container))
            })
            .collect();
        let mut names = self.names.lock();
        for sandbox in sandboxes.values() {
            sandbox.members.lock().sort_by_key(|member| member.created_at);
            let metadata = sandbox.config.metadata.clone().unwrap_or_default();
            names.insert(sandbox_name(&metadata), sandbox.id.clone());
        }
        drop(names);
        *self.sandboxes.write() = sandboxes;
        *self.containers.write() = containers;
    }

    fn restore_sandbox(&self, record: SandboxRecord) -> Sandbox {
        let config = record.config.clone().unwrap_or_default();
        let net = record.ready.then(|| self.attach(&record.id, &config, record.ip.parse().ok()));
        let net = net.and_then(|attached| {
            attached
                .inspect_err(|error| tracing::warn!(sandbox = %record.id, %error, "sandbox lost its address"))
                .ok()
        });
        Sandbox::from_record(record, net)
    }

    fn restore_container(&self, sandbox: &Sandbox, mut record: ContainerRecord) -> Container {
        if record.started_at != 0 && record.finished_at == 0 {
            let exit = Exit::lost();
            record.finished_at = now_ns();
            record.exit_code = exit.code;
            record.reason = exit.reason;
            record.message = exit.message;
            if let Err(error) = self.records.put_container(&record) {
                tracing::warn!(container = %record.id, %error, "exit not recorded");
            }
        }
        let path = log_path(&sandbox.config, record.config.as_ref());
        Container::from_record(record, path)
    }
}
