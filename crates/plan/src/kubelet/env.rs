//! A container's environment: `envFrom`, then `env` in order with `$(NAME)` expanded, then
//! what describes Services, each only where nothing before it has the name.

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Secret, Service,
};

use super::expand::expand;
use super::field::{self, Addresses, FieldError};
use super::service_env;
use super::sources::Sources;
use super::view::NodeFacts;

/// Why an environment cannot be made, as the user will read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The object is missing and not optional.
    #[error("{kind} \"{name}\" not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object lacks the key, which is not optional.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The pod's namespace.
        namespace: String,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A secret's value is not text, which environments must be.
    #[error("key {key} in Secret {name} is not valid UTF-8 and cannot be an environment variable")]
    NotText {
        /// The secret's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A reference to the pod's own fields.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A kind of source that is not offered.
    #[error("environment variable {0} has a source that this kubelet does not support")]
    Source(String),
}

/// What an environment is made from.
#[derive(Clone, Copy)]
pub struct EnvInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container in it.
    pub container: &'a Container,
    /// Its node.
    pub node: &'a NodeFacts,
    /// The pod's addresses.
    pub addresses: Addresses<'a>,
    /// The sandbox's host name.
    pub hostname: &'a str,
    /// The objects it refers to.
    pub sources: &'a Sources,
    /// The Services that it is told about.
    pub services: &'a [&'a Service],
}

/// The variables, in the order that they are set.
pub fn environment(input: EnvInput<'_>) -> Result<Vec<(String, String)>, EnvError> {
    let services = service_env::variables(input.services.iter().copied());
    let mut out = Variables::default();
    for from in input.container.env_from.iter().flatten() {
        add_from(&mut out, from, input.sources)?;
    }
    for var in input.container.env.iter().flatten() {
        if let Some(value) = value_of(var, &out, &services, input)? {
            out.set(var.name.clone(), value);
        }
    }
    for (name, value) in services {
        out.set_new(name, value);
    }
    out.set_new("HOSTNAME".to_owned(), input.hostname.to_owned());
    Ok(out.list)
}

/// Expands `$(NAME)` in commands and arguments.
pub fn expand_all(texts: &[String], environment: &[(String, String)]) -> Vec<String> {
    let lookup = |name: &str| lookup(environment, name);
    texts.iter().map(|text| expand(text, lookup)).collect()
}

/// The Services that a pod in `namespace` is told about: those of its namespace where it
/// wants links, and always the API server's.
pub fn visible_services<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> Vec<&'a Service> {
    let mut out: Vec<&Service> = services
        .into_iter()
        .filter(|service| {
            let meta = &service.metadata;
            let own = meta.namespace.as_deref() == Some(namespace);
            let api_server =
                meta.namespace.as_deref() == Some("default") && meta.name.as_deref() == Some("kubernetes");
            api_server || own && links
        })
        .collect();
    // A Service named `kubernetes` of the pod's own namespace does not hide the API server's.
    out.sort_by_key(|service| service.metadata.namespace.as_deref() != Some("default"));
    out
}

#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
}

impl Variables {
    fn set(&mut self, name: String, value: String) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.list.push((name, value)),
        }
    }

    fn set_new(&mut self, name: String, value: String) {
        if lookup(&self.list, &name).is_none() {
            self.list.push((name, value));
        }
    }
}

fn lookup<'a>(list: &'a [(String, String)], name: &str) -> Option<&'a str> {
    list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn add_from(out: &mut Variables, from: &EnvFromSource, sources: &Sources) -> Result<(), EnvError> {
    let prefix = from.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &from.config_map_ref {
        match sources.config_map(&reference.name) {
            Some(map) => {
                for (key, value) in map.data.iter().flatten() {
                    out.set(format!("{prefix}{key}"), value.clone());
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(missing("configmap", &reference.name)),
        }
    }
    if let Some(reference) = &from.secret_ref {
        match sources.secret(&reference.name) {
            Some(secret) => {
                for (key, value) in secret.data.iter().flatten() {
                    out.set(format!("{prefix}{key}"), text(&reference.name, key, &value.0)?);
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(missing("secret", &reference.name)),
        }
    }
    Ok(())
}

fn value_of(
    var: &EnvVar,
    known: &Variables,
    services: &[(String, String)],
    input: EnvInput<'_>,
) -> Result<Option<String>, EnvError> {
    match &var.value_from {
        Some(from) if var.value.as_deref().unwrap_or_default().is_empty() => value_from(var, from, input),
        _ => {
            let value = var.value.as_deref().unwrap_or_default();
            let find = |name: &str| lookup(&known.list, name).or_else(|| lookup(services, name));
            Ok(Some(expand(value, find)))
        }
    }
}

fn value_from(var: &EnvVar, from: &EnvVarSource, input: EnvInput<'_>) -> Result<Option<String>, EnvError> {
    if let Some(selector) = &from.field_ref {
        let value = field::field(&selector.field_path, input.pod, input.node, input.addresses)?;
        return Ok(Some(value));
    }
    if let Some(selector) = &from.resource_field_ref {
        let value = field::resource(selector, input.pod, Some(input.container), input.node)?;
        return Ok(Some(value));
    }
    let namespace = input.pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(selector) = &from.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let map = input.sources.config_map(&selector.name);
        let Some(map) = map else {
            return optional_or(optional, missing("configmap", &selector.name));
        };
        return match config_map_text(map, &selector.key) {
            Some(value) => Ok(Some(value)),
            None => optional_or(optional, no_key("ConfigMap", namespace, &selector.name, &selector.key)),
        };
    }
    if let Some(selector) = &from.secret_key_ref {
        let optional = selector.optional == Some(true);
        let secret = input.sources.secret(&selector.name);
        let Some(secret) = secret else {
            return optional_or(optional, missing("secret", &selector.name));
        };
        return match secret_bytes(secret, &selector.key) {
            Some(value) => text(&selector.name, &selector.key, value).map(Some),
            None => optional_or(optional, no_key("Secret", namespace, &selector.name, &selector.key)),
        };
    }
    Err(EnvError::Source(var.name.clone()))
}

fn optional_or(optional: bool, error: EnvError) -> Result<Option<String>, EnvError> {
    if optional { Ok(None) } else { Err(error) }
}

fn config_map_text(map: &ConfigMap, key: &str) -> Option<String> {
    map.data.as_ref()?.get(key).cloned()
}

fn secret_bytes<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    Some(secret.data.as_ref()?.get(key)?.0.as_slice())
}

fn text(name: &str, key: &str, bytes: &[u8]) -> Result<String, EnvError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(EnvError::NotText { name: name.to_owned(), key: key.to_owned() }),
    }
}

fn missing(kind: &'static str, name: &str) -> EnvError {
    EnvError::Missing { kind, name: name.to_owned() }
}

fn no_key(kind: &'static str, namespace: &str, name: &str, key: &str) -> EnvError {
    EnvError::Key { kind, namespace: namespace.to_owned(), name: name.to_owned(), key: key.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn sources() -> Sources {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"color": "blue", "A": "from-map"}})).unwrap();
        let secret: Secret =
            serde_json::from_value(json!({"data": {"pw": "czNjcmV0", "bin": "/w=="}})).unwrap();
        let mut sources = Sources::default();
        sources.config_maps.insert("cm".into(), Some(Arc::new(map)));
        sources.secrets.insert("s".into(), Some(Arc::new(secret)));
        sources
    }

    fn run(container: serde_json::Value) -> Result<Vec<(String, String)>, EnvError> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [container]}
        }))
        .unwrap();
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 443}]}
        }))
        .unwrap();
        let sources = sources();
        let all = environment(EnvInput {
            pod: &pod,
            container: &pod.spec.as_ref().unwrap().containers[0],
            node: &NodeFacts { name: "n1".into(), ..Default::default() },
            addresses: Addresses::default(),
            hostname: "p",
            sources: &sources,
            services: &[&service],
        })?;
        Ok(all.into_iter().filter(|(name, _)| !name.starts_with("KUBERNETES_PORT")).collect())
    }

    #[test]
    fn order_overrides_and_expansion() {
        let all = run(json!({"name": "c",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"configMapRef": {"name": "cm"}},
                    {"secretRef": {"name": "gone", "optional": true}}],
        "env": [
            {"name": "A", "value": "own"},
            {"name": "B", "value": "$(A)/$(color)/$(KUBERNETES_SERVICE_HOST)/$(NOPE)"},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "x", "optional": true}}},
        ]}))
        .unwrap();
        let text: Vec<_> = all.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "P_A=from-map",
                "P_color=blue",
                "A=own",
                "color=blue",
                "B=own/blue/10.0.0.1/$(NOPE)",
                "PW=s3cret",
                "NODE=n1",
                "KUBERNETES_SERVICE_HOST=10.0.0.1",
                "KUBERNETES_SERVICE_PORT=443",
                "KUBERNETES_SERVICE_PORT_HTTPS=443",
                "HOSTNAME=p",
            ]
        );
    }

    #[test]
    fn errors_name_what_is_missing() {
        for (from, message) in [
            (json!({"configMapKeyRef": {"name": "gone", "key": "k"}}), "configmap \"gone\" not found"),
            (
                json!({"configMapKeyRef": {"name": "cm", "key": "k"}}),
                "couldn't find key k in ConfigMap ns/cm",
            ),
            (json!({"secretKeyRef": {"name": "s", "key": "k"}}), "couldn't find key k in Secret ns/s"),
            (json!({"fieldRef": {"fieldPath": "status.phase"}}), "unsupported fieldPath: status.phase"),
        ] {
            let error = run(json!({"name": "c", "env": [{"name": "X", "valueFrom": from}]})).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let binary = json!({"secretKeyRef": {"name": "s", "key": "bin"}});
        let error = run(json!({"name": "c", "env": [{"name": "X", "valueFrom": binary}]}));
        assert!(matches!(error, Err(EnvError::NotText { .. })));
    }

    #[test]
    fn links_are_optional_but_the_api_server_is_not() {
        let service = |namespace: &str, name: &str| -> Service {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}})).unwrap()
        };
        let all = [service("ns", "web"), service("default", "kubernetes"), service("other", "x")];
        let names = |links| -> Vec<String> {
            visible_services(&all, "ns", links).iter().map(|s| s.metadata.name.clone().unwrap()).collect()
        };
        assert_eq!(names(true), ["kubernetes", "web"]);
        assert_eq!(names(false), ["kubernetes"]);
    }
}
