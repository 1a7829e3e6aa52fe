//! Cluster IPs and node ports of Services.
//!
//! What is taken is kept in bitmaps, rebuilt from the stored Services at start. A write
//! reserves in memory first, so that two concurrent writes never get the same address, and
//! a [`Reservation`] that is dropped before its write succeeded gives everything back. Each
//! master has its own bitmaps: uniqueness across several masters needs them to share.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use coracle_api::field::{FieldError, FieldErrors};
use coracle_api::meta::text;
use ipnet::Ipv4Net;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::registry::allocate::Bitmap;
use crate::registry::{Registry, StartError};

/// At most so many numbers at the beginning of a range are left to explicit requests while
/// others are free: dynamic allocation starts above them.
const STATIC_BAND_MAX: usize = 256;
/// At least so many are.
const STATIC_BAND_MIN: usize = 16;

/// The numbers below which dynamic allocation goes last: `min(max(16, n/16), 256)`, none in
/// ranges too small to split.
fn static_band(len: usize) -> usize {
    if len < STATIC_BAND_MIN { 0 } else { (len / 16).clamp(STATIC_BAND_MIN, STATIC_BAND_MAX) }
}

struct Taken {
    addresses: Bitmap,
    ports: Bitmap,
}

/// Who has which address and port.
#[derive(Clone)]
pub(super) struct Allocators(Arc<Shared>);

struct Shared {
    cidr: Ipv4Net,
    ports: RangeInclusive<u16>,
    taken: Mutex<Taken>,
}

/// What a write has reserved, and what it frees when it succeeds.
#[must_use]
pub(super) struct Reservation {
    allocators: Allocators,
    taken: Numbers,
    freed: Numbers,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Numbers {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

impl Reservation {
    /// The write happened.
    pub(super) fn commit(mut self) {
        self.taken = Numbers::default();
        let freed = std::mem::take(&mut self.freed);
        self.allocators.release(&freed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.allocators.release(&self.taken);
    }
}

impl Allocators {
    /// Nothing is taken.
    pub(super) fn new(cidr: Ipv4Net, ports: RangeInclusive<u16>) -> Self {
        let addresses = 1_usize << u32::from(32 - cidr.prefix_len()).min(24);
        let count = usize::from(ports.end().saturating_sub(*ports.start())) + 1;
        let taken = Taken { addresses: Bitmap::new(addresses), ports: Bitmap::new(count) };
        Self(Arc::new(Shared { cidr, ports, taken: Mutex::new(taken) }))
    }

    /// Takes what a stored Service has. Doubles stay with whoever came first.
    pub(super) fn adopt(&self, service: &Value) {
        let numbers = self.numbers_of(service);
        let mut taken = self.0.taken.lock();
        for address in numbers.addresses {
            if let Some(at) = self.address_index(address) {
                taken.addresses.take(at);
            }
        }
        for port in numbers.ports {
            if let Some(at) = self.port_index(port) {
                taken.ports.take(at);
            }
        }
    }

    /// Gives `new` the addresses and ports it needs and checks those it asks for. `old` is
    /// what is stored now: what both have is kept, what only `old` has is freed on commit.
    ///
    /// # Errors
    /// The fields whose wishes cannot be granted.
    pub(super) fn reserve(&self, new: &mut Value, old: Option<&Value>) -> Result<Reservation, FieldErrors> {
        let held = old.map(|old| self.numbers_of(old)).unwrap_or_default();
        let mut reservation =
            Reservation { allocators: self.clone(), taken: Numbers::default(), freed: Numbers::default() };
        let mut errors = check_families(new);
        self.reserve_address(new, &held, &mut reservation.taken, &mut errors);
        self.reserve_ports(new, &held, &mut reservation.taken, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let kept = self.numbers_of(new);
        reservation.freed = Numbers {
            addresses: held.addresses.difference(&kept.addresses).copied().collect(),
            ports: held.ports.difference(&kept.ports).copied().collect(),
        };
        Ok(reservation)
    }

    /// Frees what a deleted Service had.
    pub(super) fn forget(&self, service: &Value) {
        self.release(&self.numbers_of(service));
    }

    fn release(&self, numbers: &Numbers) {
        let mut taken = self.0.taken.lock();
        for at in numbers.addresses.iter().filter_map(|address| self.address_index(*address)) {
            taken.addresses.release(at);
        }
        for at in numbers.ports.iter().filter_map(|port| self.port_index(*port)) {
            taken.ports.release(at);
        }
    }

    fn address_index(&self, address: Ipv4Addr) -> Option<usize> {
        let offset = u32::from(address).checked_sub(u32::from(self.0.cidr.network()))? as usize;
        // The network and broadcast addresses are nobody's.
        let last = (1_usize << u32::from(32 - self.0.cidr.prefix_len()).min(24)) - 1;
        (offset > 0 && offset < last).then_some(offset)
    }

    fn port_index(&self, port: u16) -> Option<usize> {
        self.0.ports.contains(&port).then(|| usize::from(port - self.0.ports.start()))
    }

    fn numbers_of(&self, service: &Value) -> Numbers {
        let Some(spec) = service.get("spec") else { return Numbers::default() };
        let mut numbers = Numbers::default();
        if text(spec, "type") != "ExternalName" {
            let listed = spec.get("clusterIPs").and_then(Value::as_array).into_iter().flatten();
            let all = listed.filter_map(Value::as_str).chain(std::iter::once(text(spec, "clusterIP")));
            numbers.addresses = all.filter_map(|ip| ip.parse().ok()).collect();
        }
        let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
        let node_ports =
            ports.map(|port| port.get("nodePort")).chain(std::iter::once(spec.get("healthCheckNodePort")));
        numbers.ports = node_ports
            .filter_map(|port| u16::try_from(port?.as_u64()?).ok())
            .filter(|port| *port != 0)
            .collect();
        numbers
    }

    fn reserve_address(
        &self,
        new: &mut Value,
        held: &Numbers,
        taken: &mut Numbers,
        errors: &mut FieldErrors,
    ) {
        let Some(spec) = spec_mut(new) else { return };
        if spec_type(spec) == "ExternalName" {
            return;
        }
        let wish = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
        if wish == "None" {
            return;
        }
        if wish.is_empty() {
            let Some(address) = self.any_address() else {
                errors.push(FieldError::internal(
                    "spec.clusterIPs",
                    "failed to allocate a serviceIP: range is full",
                ));
                return;
            };
            taken.addresses.insert(address);
            spec.insert("clusterIP".to_owned(), json!(address.to_string()));
            spec.insert("clusterIPs".to_owned(), json!([address.to_string()]));
            return;
        }
        // What is no address at all is for validation to refuse.
        let Ok(address) = wish.parse::<Ipv4Addr>() else { return };
        if held.addresses.contains(&address) {
            return;
        }
        let refuse = |why: String| {
            FieldError::invalid(
                "spec.clusterIPs",
                json!([wish]),
                format!("failed to allocate IP {wish}: {why}"),
            )
        };
        match self.address_index(address) {
            None => errors.push(refuse(format!(
                "the provided IP ({wish}) is not in the valid range. The range of valid IPs is {}",
                self.0.cidr
            ))),
            Some(at) if self.0.taken.lock().addresses.take(at) => {
                taken.addresses.insert(address);
            }
            Some(_) => errors.push(refuse("provided IP is already allocated".to_owned())),
        }
    }

    fn any_address(&self) -> Option<Ipv4Addr> {
        let mut taken = self.0.taken.lock();
        let len = taken.addresses.len();
        // The ends of the range are nobody's; marking them keeps the search simple.
        taken.addresses.take(0);
        taken.addresses.take(len - 1);
        let band = static_band(len);
        let at = taken.addresses.take_any(band, rand::random_range(band..len.max(band + 1)))?;
        Some(Ipv4Addr::from(u32::from(self.0.cidr.network()) + u32::try_from(at).ok()?))
    }

    fn reserve_ports(&self, new: &mut Value, held: &Numbers, taken: &mut Numbers, errors: &mut FieldErrors) {
        let Some(spec) = spec_mut(new) else { return };
        let kind = spec_type(spec).to_owned();
        let wanted = kind == "NodePort"
            || (kind == "LoadBalancer"
                && spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)));
        let exposes = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
        let local = kind == "LoadBalancer" && spec.get("externalTrafficPolicy") == Some(&json!("Local"));
        // A port number may serve two protocols of one Service.
        let mut mine: Vec<(u16, String)> = Vec::new();
        if let (true, Some(ports)) = (exposes, spec.get_mut("ports").and_then(Value::as_array_mut)) {
            for (at, port) in ports.iter_mut().enumerate() {
                let path = format!("spec.ports[{at}].nodePort");
                self.reserve_port(&path, port, wanted, held, taken, &mut mine, errors);
            }
        }
        if local && spec.get("healthCheckNodePort").and_then(Value::as_u64).unwrap_or_default() == 0 {
            match self.any_port() {
                Some(port) => {
                    taken.ports.insert(port);
                    spec.insert("healthCheckNodePort".to_owned(), json!(port));
                }
                None => errors.push(no_ports("spec.healthCheckNodePort")),
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one walk over a Service's ports")]
    fn reserve_port(
        &self,
        path: &str,
        port: &mut Value,
        wanted: bool,
        held: &Numbers,
        taken: &mut Numbers,
        mine: &mut Vec<(u16, String)>,
        errors: &mut FieldErrors,
    ) {
        let protocol = text(port, "protocol").to_owned();
        let wish = port.get("nodePort").and_then(Value::as_i64).unwrap_or_default();
        if wish == 0 {
            if !wanted {
                return;
            }
            match self.any_port() {
                Some(number) => {
                    taken.ports.insert(number);
                    mine.push((number, protocol));
                    if let Some(port) = port.as_object_mut() {
                        port.insert("nodePort".to_owned(), json!(number));
                    }
                }
                None => errors.push(no_ports(path)),
            }
            return;
        }
        let number = u16::try_from(wish).unwrap_or_default();
        let Some(at) = self.port_index(number) else {
            errors.push(FieldError::invalid(
                path,
                wish,
                format!(
                    "provided port is not in the valid range. The range of valid ports is {}-{}",
                    self.0.ports.start(),
                    self.0.ports.end()
                ),
            ));
            return;
        };
        let shared = mine.iter().any(|(known, other)| *known == number && *other != protocol);
        if held.ports.contains(&number) || shared {
            mine.push((number, protocol));
            return;
        }
        if self.0.taken.lock().ports.take(at) {
            taken.ports.insert(number);
            mine.push((number, protocol));
        } else {
            errors.push(FieldError::invalid(path, wish, "provided port is already allocated"));
        }
    }

    fn any_port(&self) -> Option<u16> {
        let mut taken = self.0.taken.lock();
        let len = taken.ports.len();
        let band = static_band(len);
        let at = taken.ports.take_any(band, rand::random_range(band..len.max(band + 1)))?;
        Some(self.0.ports.start() + u16::try_from(at).ok()?)
    }
}

fn no_ports(path: &str) -> FieldError {
    FieldError::internal(path, "failed to allocate a nodePort: range is full")
}

fn spec_mut(service: &mut Value) -> Option<&mut Map<String, Value>> {
    service.get_mut("spec").and_then(Value::as_object_mut)
}

fn spec_type(spec: &Map<String, Value>) -> &str {
    match spec.get("type").and_then(Value::as_str) {
        None | Some("") => "ClusterIP",
        Some(kind) => kind,
    }
}

/// A single-stack IPv4 cluster refuses what asks for more, except where nothing is allocated.
fn check_families(service: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let Some(spec) = service.get("spec") else { return errors };
    let headless_without_selector = text(spec, "clusterIP") == "None"
        && spec.get("selector").is_none_or(|all| all.as_object().is_none_or(Map::is_empty));
    if text(spec, "type") == "ExternalName" || headless_without_selector {
        return errors;
    }
    if text(spec, "ipFamilyPolicy") == "RequireDualStack" {
        errors.push(FieldError::invalid(
            "spec.ipFamilyPolicy",
            "RequireDualStack",
            "this cluster is not configured for dual-stack services",
        ));
    }
    for (at, family) in spec.get("ipFamilies").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if family == "IPv6" {
            errors.push(FieldError::invalid(
                format!("spec.ipFamilies[{at}]"),
                "IPv6",
                "not configured on this cluster",
            ));
        }
    }
    errors
}

/// Carries over from `old` what an update leaves out or its change of type makes void: the
/// allocated ports stay when they still fit, and addresses and ports go when they do not.
/// (That an address stays, and may not change, is a rule of the kind.)
pub(super) fn carry_over(new: &mut Value, old: &Value) {
    let (Some(old), Some(new)) = (old.get("spec").and_then(Value::as_object), spec_mut(new)) else { return };
    let exposes = |spec: &Map<String, Value>| matches!(spec_type(spec), "NodePort" | "LoadBalancer");
    if spec_type(old) != "ExternalName" && spec_type(new) == "ExternalName" {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if new.get(key) == old.get(key) {
                new.remove(key);
            }
        }
    }
    match (exposes(old), exposes(new)) {
        (true, true) => keep_node_ports(new, old),
        (true, false) => drop_node_ports(new, old),
        _ => {}
    }
    let needs_health = |spec: &Map<String, Value>| {
        spec_type(spec) == "LoadBalancer" && spec.get("externalTrafficPolicy") == Some(&json!("Local"))
    };
    if needs_health(old) && needs_health(new) && !new.contains_key("healthCheckNodePort") {
        if let Some(port) = old.get("healthCheckNodePort") {
            new.insert("healthCheckNodePort".to_owned(), port.clone());
        }
    } else if needs_health(old)
        && !needs_health(new)
        && new.get("healthCheckNodePort") == old.get("healthCheckNodePort")
    {
        new.remove("healthCheckNodePort");
    }
}

fn keep_node_ports(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let old_ports = old.get("ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let Some(ports) = new.get_mut("ports").and_then(Value::as_array_mut) else { return };
    let asked: BTreeSet<i64> = ports.iter().filter_map(|port| port.get("nodePort")?.as_i64()).collect();
    for port in
        ports.iter_mut().filter(|port| port.get("nodePort").and_then(Value::as_i64).unwrap_or_default() == 0)
    {
        let same =
            |other: &&Value| other.get("port") == port.get("port") && protocol(other) == protocol(port);
        let kept = old_ports.iter().find(same).and_then(|other| other.get("nodePort")).cloned();
        let free = kept.filter(|number| number.as_i64().is_some_and(|number| !asked.contains(&number)));
        if let (Some(number), Some(port)) = (free, port.as_object_mut()) {
            port.insert("nodePort".to_owned(), number);
        }
    }
}

fn protocol(port: &Value) -> &str {
    Some(text(port, "protocol")).filter(|protocol| !protocol.is_empty()).unwrap_or("TCP")
}

fn drop_node_ports(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let numbers = |spec: &Map<String, Value>| -> BTreeSet<i64> {
        let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
        ports.filter_map(|port| port.get("nodePort")?.as_i64()).collect()
    };
    let before = numbers(old);
    for port in new.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut()
            && port.get("nodePort").and_then(Value::as_i64).is_some_and(|number| before.contains(&number))
        {
            port.remove("nodePort");
        }
    }
    for key in ["externalTrafficPolicy", "allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if new.get(key) == old.get(key) {
            new.remove(key);
        }
    }
}

impl Registry {
    /// Rebuilds what is taken from the stored Services.
    pub(super) async fn load_services(&self) -> Result<(), StartError> {
        let index = self.resources();
        let Some(row) = index.find("", "v1", "services") else { return Ok(()) };
        let cache = self.0.caches.kind(&row.stored).await.map_err(|error| match error {
            crate::cache::ReadError::Store(source) => StartError::Store { what: "Services", source },
        })?;
        for object in cache.snapshot(&crate::cache::Place::All, None).objects {
            let service = object
                .value()
                .ok_or_else(|| StartError::Object { what: "Service", why: object.tail().to_string() })?;
            self.0.services.adopt(&service);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocators() -> Allocators {
        Allocators::new(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 24), 30_000..=30_031)
    }

    fn service(spec: Value) -> Value {
        json!({"spec": spec})
    }

    #[test]
    fn an_address_is_given_once_and_freed_with_its_reservation() {
        let all = allocators();
        let mut first = service(json!({"ports": []}));
        let kept = all.reserve(&mut first, None).unwrap();
        let ip = first["spec"]["clusterIP"].clone();
        let mut second = service(json!({"clusterIP": ip, "ports": []}));
        let error = all.reserve(&mut second, None).err().unwrap();
        assert!(error[0].detail.ends_with("provided IP is already allocated"), "{error:?}");
        drop(kept);
        assert!(all.reserve(&mut second, None).is_ok());
    }

    #[test]
    fn node_ports_are_checked_shared_between_protocols_and_freed_on_change() {
        let all = allocators();
        let mut np = service(json!({"type": "NodePort", "ports": [
            {"port": 1, "protocol": "TCP", "nodePort": 30_001}, {"port": 1, "protocol": "UDP", "nodePort": 30_001}]}));
        all.reserve(&mut np, None).unwrap().commit();
        let mut other = service(
            json!({"type": "NodePort", "ports": [{"port": 2, "protocol": "TCP", "nodePort": 30_001}]}),
        );
        assert_eq!(
            all.reserve(&mut other, None).err().unwrap()[0].detail,
            "provided port is already allocated"
        );
        let mut low = service(json!({"type": "NodePort", "ports": [{"port": 2, "nodePort": 8080}]}));
        assert!(all.reserve(&mut low, None).err().unwrap()[0].detail.contains("30000-30031"));

        let mut plain = np.clone();
        plain["spec"]["type"] = json!("ClusterIP");
        carry_over(&mut plain, &np);
        assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
        all.reserve(&mut plain, Some(&np)).unwrap().commit();
        assert!(all.reserve(&mut other, None).is_ok());
    }

    #[test]
    fn an_external_name_gives_its_address_up() {
        let old = service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"]}));
        let all = allocators();
        all.adopt(&old);
        let mut external = old.clone();
        external["spec"]["type"] = json!("ExternalName");
        carry_over(&mut external, &old);
        assert!(external["spec"].get("clusterIP").is_none());
        all.reserve(&mut external, Some(&old)).unwrap().commit();
        let mut next = service(json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"]}));
        assert!(all.reserve(&mut next, None).is_ok());
    }

    #[test]
    fn dual_stack_is_refused_unless_nothing_is_allocated() {
        let all = allocators();
        let mut both = service(json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}));
        assert_eq!(all.reserve(&mut both, None).err().unwrap().len(), 2);
        let mut manual = both.clone();
        manual["spec"]["clusterIP"] = json!("None");
        assert!(all.reserve(&mut manual, None).is_ok());
    }

    #[test]
    fn a_full_range_says_so() {
        let all = allocators();
        let ports: Vec<Value> = (0..33).map(|n| json!({"port": n + 1, "protocol": "TCP"})).collect();
        let mut many = service(json!({"type": "NodePort", "ports": ports}));
        assert!(all.reserve(&mut many, None).is_err());
        let mut few = service(json!({"type": "NodePort", "ports": [{"port": 1}]}));
        assert!(all.reserve(&mut few, None).is_ok());
    }
}
