//! Names of the cluster, as cluster DNS answers them: Services, headless Services, their
//! hostnames and ExternalName aliases. A table of the routing snapshot; no queries, no
//! server. Relative names are completed as a pod's resolver does: its own namespace's
//! services first, then all services, then the cluster domain, then the name as it is.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// The cluster's names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Lower case, without dots at its ends.
    domain: String,
    namespaces: HashMap<String, HashMap<String, ServiceNames>>,
}

/// What one Service's names mean.
#[derive(Debug, Default, Clone)]
pub(crate) struct ServiceNames {
    /// Empty: headless, and `endpoints` answers.
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) external_name: Option<String>,
    pub(crate) endpoints: BTreeSet<IpAddr>,
    /// Lower-case hostname of an endpoint, to its addresses.
    pub(crate) hosts: HashMap<String, BTreeSet<IpAddr>>,
}

/// The answer to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Never empty.
    Addresses(Vec<IpAddr>),
    /// Another name, absolute, stands for this one.
    Alias(String),
    /// The cluster is responsible, and there is no such name.
    Missing,
    /// Not a name of the cluster; this is what the world should be asked.
    Outside(String),
}

impl Names {
    pub(crate) fn new(domain: &str) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        Self { domain, namespaces: HashMap::new() }
    }

    pub(crate) fn add(&mut self, namespace: &str, service: &str, names: ServiceNames) {
        self.namespaces.entry(namespace.to_owned()).or_default().insert(service.to_owned(), names);
    }

    /// Resolves a name as a pod of `namespace` writes it; a final dot makes it absolute.
    pub(crate) fn lookup(&self, name: &str, namespace: &str) -> Answer {
        let lower = name.to_ascii_lowercase();
        if let Some(absolute) = lower.strip_suffix('.') {
            return self.absolute(absolute);
        }
        let services = format!("{lower}.{namespace}.svc");
        let searches = [services.as_str(), &format!("{lower}.svc"), lower.as_str()];
        searches
            .iter()
            .map(|relative| self.relative(relative))
            .find(|answer| !matches!(answer, Answer::Missing | Answer::Outside(_)))
            .unwrap_or_else(|| self.absolute(&lower))
    }

    /// A name without its final dot, in lower case.
    fn absolute(&self, name: &str) -> Answer {
        if self.domain.is_empty() {
            return Answer::Outside(name.to_owned());
        }
        if name == self.domain {
            return Answer::Missing;
        }
        match name.strip_suffix(&self.domain).and_then(|rest| rest.strip_suffix('.')) {
            Some(relative) => self.relative(relative),
            None => Answer::Outside(name.to_owned()),
        }
    }

    /// A name relative to the cluster domain: `[host.]service.namespace.svc`.
    fn relative(&self, name: &str) -> Answer {
        let labels: Vec<&str> = name.split('.').collect();
        let (host, service, namespace) = match labels.as_slice() {
            [service, namespace, "svc"] => (None, *service, *namespace),
            [host, service, namespace, "svc"] => (Some(*host), *service, *namespace),
            _ => return Answer::Missing,
        };
        let found = self.namespaces.get(namespace).and_then(|services| services.get(service));
        let Some(names) = found else { return Answer::Missing };
        let addresses: Vec<IpAddr> = match (host, &names.external_name) {
            (None, Some(target)) => {
                return Answer::Alias(target.trim_end_matches('.').to_ascii_lowercase());
            }
            (Some(host), _) => names.hosts.get(host).into_iter().flatten().copied().collect(),
            (None, None) if names.cluster_ips.is_empty() => names.endpoints.iter().copied().collect(),
            (None, None) => names.cluster_ips.clone(),
        };
        if addresses.is_empty() { Answer::Missing } else { Answer::Addresses(addresses) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn names() -> Names {
        let mut names = Names::new("Cluster.local.");
        let web = ServiceNames { cluster_ips: vec![ip("10.0.0.9")], ..ServiceNames::default() };
        names.add("default", "web", web);
        let db = ServiceNames {
            endpoints: BTreeSet::from([ip("10.128.0.3"), ip("10.128.0.2")]),
            hosts: HashMap::from([("db-0".to_owned(), BTreeSet::from([ip("10.128.0.2")]))]),
            ..ServiceNames::default()
        };
        names.add("data", "db", db);
        let alias =
            ServiceNames { external_name: Some("Example.org.".to_owned()), ..ServiceNames::default() };
        names.add("default", "out", alias);
        names.add("default", "empty", ServiceNames::default());
        names
    }

    fn text(answer: &Answer) -> String {
        match answer {
            Answer::Addresses(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Answer::Alias(name) => format!("-> {name}"),
            Answer::Missing => "missing".to_owned(),
            Answer::Outside(name) => format!("? {name}"),
        }
    }

    #[test]
    fn answers_as_cluster_dns_does() {
        let names = names();
        let cases = [
            ("web", "default", "10.0.0.9"),
            ("WEB", "default", "10.0.0.9"),
            ("web", "other", "? web"),
            ("web.", "default", "? web"),
            ("web.default", "other", "10.0.0.9"),
            ("web.default.svc", "other", "10.0.0.9"),
            ("web.default.svc.cluster.local", "other", "10.0.0.9"),
            ("web.default.svc.cluster.local.", "other", "10.0.0.9"),
            ("web.default.svc.", "other", "? web.default.svc"),
            ("nope.default.svc.cluster.local", "other", "missing"),
            ("cluster.local", "other", "missing"),
            ("notcluster.local", "other", "? notcluster.local"),
            ("db", "data", "10.128.0.2 10.128.0.3"),
            ("db.data", "default", "10.128.0.2 10.128.0.3"),
            ("db-0.db", "data", "10.128.0.2"),
            ("db-0.db.data.svc.cluster.local", "default", "10.128.0.2"),
            ("db-9.db.data.svc.cluster.local", "default", "missing"),
            ("web-0.web.default.svc.cluster.local", "default", "missing"),
            ("out", "default", "-> example.org"),
            ("empty.default.svc.cluster.local", "default", "missing"),
            ("example.org", "default", "? example.org"),
            ("", "default", "? "),
            ("..", "default", "? ."),
        ];
        for (name, namespace, expected) in cases {
            assert_eq!(text(&names.lookup(name, namespace)), expected, "{name} in {namespace}");
        }
    }
}
