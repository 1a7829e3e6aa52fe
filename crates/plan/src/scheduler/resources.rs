//! Amounts of resources, and how much of them a pod asks for. A pod takes what its
//! containers take together, or what its hungriest init container takes if that is more,
//! and its overhead; sidecars count on both sides, since they run all along.

use std::collections::BTreeMap;

use coracle_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

/// What a container that asks for no CPU is taken to use when nodes are compared, in
/// thousandths of a core.
pub const MILLI_CPU_DEFAULT: i64 = 100;
/// What a container that asks for no memory is taken to use when nodes are compared.
pub const MEMORY_BYTES_DEFAULT: i64 = 200 * 1024 * 1024;

type List = BTreeMap<String, WireQuantity>;

/// Amounts of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, in their own units. Never zero.
    pub scalar: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a resource list; names in no list are zero, and so is what is no quantity.
    pub fn from_list(list: &List) -> Self {
        let mut all = Self::default();
        for (name, quantity) in list {
            all.set(name, amount(name, quantity));
        }
        all
    }

    /// Adds what another takes.
    pub fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_add(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let sum = self.scalar.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes away what was added.
    pub fn subtract(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_sub(other.milli_cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_sub(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            if let Some(rest) = self.scalar.get_mut(name) {
                *rest = rest.saturating_sub(*amount);
                if *rest == 0 {
                    self.scalar.remove(name);
                }
            }
        }
    }

    fn raise_to(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.max(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let most = self.scalar.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }

    fn set(&mut self, name: &str, amount: i64) {
        match name {
            "cpu" => self.milli_cpu = amount,
            "memory" => self.memory = amount,
            "ephemeral-storage" => self.ephemeral_storage = amount,
            // A count of pods is a node's, not a pod's.
            "pods" => {}
            _ if amount == 0 => {
                self.scalar.remove(name);
            }
            _ => {
                self.scalar.insert(name.to_owned(), amount);
            }
        }
    }
}

/// What a pod asks for.
pub fn pod_requests(spec: &PodSpec) -> Resources {
    total(spec, &container_requests)
}

/// What a pod is taken to use when nodes are compared: containers that ask for no CPU or
/// memory count with a default.
pub fn pod_usage(spec: &PodSpec) -> Resources {
    total(spec, &|container: &Container| {
        let mut usage = container_requests(container);
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let asks = |name| requests.is_some_and(|list| list.contains_key(name));
        if !asks("cpu") {
            usage.milli_cpu = MILLI_CPU_DEFAULT;
        }
        if !asks("memory") {
            usage.memory = MEMORY_BYTES_DEFAULT;
        }
        usage
    })
}

/// The number in a node's list of allocatable resources; 0 when it is not there.
pub fn allocatable_pods(list: &List) -> i64 {
    list.get("pods").map_or(0, |quantity| amount("pods", quantity))
}

fn total(spec: &PodSpec, of: &dyn Fn(&Container) -> Resources) -> Resources {
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut most = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let requests = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(&requests);
            sidecars.add(&requests);
            most.raise_to(&sidecars);
        } else {
            let mut while_it_runs = sidecars.clone();
            while_it_runs.add(&requests);
            most.raise_to(&while_it_runs);
        }
    }
    sum.raise_to(&most);
    let pod_level = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    for (name, quantity) in pod_level.into_iter().flatten() {
        sum.set(name, amount(name, quantity));
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Resources::from_list(overhead));
    }
    sum
}

fn container_requests(container: &Container) -> Resources {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.map(Resources::from_list).unwrap_or_default()
}

fn amount(name: &str, quantity: &WireQuantity) -> i64 {
    let Ok(quantity) = quantity.0.parse::<Quantity>() else { return 0 };
    let number = if name == "cpu" { quantity.milli() } else { quantity.units() };
    i64::try_from(number.max(0)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::MakePod;

    fn requests(pod: MakePod) -> (i64, i64) {
        let pod = pod.obj();
        let all = pod_requests(pod.spec.as_ref().unwrap());
        (all.milli_cpu, all.memory)
    }

    #[test]
    fn init_containers_sidecars_and_overhead() {
        let pod = || MakePod::new("p").req(&[("cpu", "1"), ("memory", "100")]);
        let two = || pod().req(&[("cpu", "500m"), ("memory", "50")]);
        assert_eq!(requests(pod()), (1000, 100));
        assert_eq!(requests(two()), (1500, 150));
        assert_eq!(requests(two().init_req(&[("cpu", "2"), ("memory", "10")])), (2000, 150));
        assert_eq!(requests(two().sidecar_req(&[("cpu", "2")])), (3500, 150));
        // The sidecar was started before the init container, and runs beside it.
        let both = two().sidecar_req(&[("cpu", "1")]).init_req(&[("cpu", "2")]);
        assert_eq!(requests(both), (3000, 150));
        assert_eq!(requests(pod().overhead(&[("cpu", "10m")])), (1010, 100));
        assert_eq!(requests(pod().pod_req(&[("cpu", "3")])), (3000, 100));
    }

    #[test]
    fn defaults_count_only_for_comparison() {
        let pod = MakePod::new("p").req(&[]).req(&[("cpu", "1")]).obj();
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(pod_requests(spec).milli_cpu, 1000);
        assert_eq!(pod_usage(spec).milli_cpu, 1100);
        assert_eq!(pod_usage(spec).memory, 2 * MEMORY_BYTES_DEFAULT);
    }

    #[test]
    fn nonsense_is_nothing() {
        assert_eq!(requests(MakePod::new("p").req(&[("cpu", "lots"), ("memory", "-1")])), (0, 0));
    }

    #[test]
    fn what_was_added_can_be_taken_away() {
        let pod = MakePod::new("p").req(&[("cpu", "1"), ("example.com/gpu", "2")]).obj();
        let all = pod_requests(pod.spec.as_ref().unwrap());
        assert_eq!(all.scalar["example.com/gpu"], 2);
        let mut sum = all.clone();
        sum.add(&all);
        sum.subtract(&all);
        assert_eq!(sum, all);
        sum.subtract(&all);
        assert_eq!(sum, Resources::default());
    }
}
