//! From a CRI container configuration to what a guest gets: arguments, environment,
//! directories, the port to serve. Nothing of the host that the configuration does not
//! name.

use std::path::{Path, PathBuf};

use coracle_cri::runtime::v1::{ContainerConfig, PodSandboxConfig};
use serde::Deserialize;

/// Annotation in which kubelets pass a container's ports.
const PORTS_ANNOTATION: &str = "io.kubernetes.container.ports";
/// Where an HTTP component is served when its container declares no port.
const PORT_DEFAULT: u16 = 8080;
/// Arguments and environment together may have this many bytes, as with `execve`.
const ARGUMENT_BYTES_MAX: usize = 2 << 20;

/// A configuration that cannot be satisfied; reported as INVALID_ARGUMENT.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SpecError {
    #[error("{0} is missing from the request")]
    Missing(&'static str),
    #[error("arguments and environment have more than {ARGUMENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("annotation {PORTS_ANNOTATION} is not a list of ports: {0}")]
    Ports(String),
    #[error("{0} is not available to WebAssembly containers")]
    Unsupported(&'static str),
    #[error("mount path {0:?} is not an absolute path without '..'")]
    MountPath(String),
    #[error("cannot mount {host}: {problem}")]
    Mount { host: String, problem: String },
}

/// What a guest is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestSpec {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: Option<String>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) port: u16,
}

/// A directory that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) readonly: bool,
}

impl GuestSpec {
    /// Reads a configuration. Single files are put into directories below `files_dir`,
    /// which is made when there are any.
    ///
    /// # Errors
    /// See [`SpecError`].
    pub(crate) fn new(
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
        files_dir: &Path,
    ) -> Result<Self, SpecError> {
        refuse_host_access(config)?;
        let spec = Self {
            args: arguments(config),
            env: environment(config, &sandbox.hostname),
            working_dir: Some(config.working_dir.clone()).filter(|dir| !dir.is_empty()),
            directories: crate::mounts::directories(&config.mounts, files_dir)?,
            port: port(config)?,
        };
        let args = spec.args.iter().map(String::len);
        let env = spec.env.iter().map(|(name, value)| name.len() + value.len());
        if args.chain(env).sum::<usize>() > ARGUMENT_BYTES_MAX {
            return Err(SpecError::TooLarge);
        }
        Ok(spec)
    }
}

/// What a sandbox without a kernel of its own cannot give, and must not pretend to.
fn refuse_host_access(config: &ContainerConfig) -> Result<(), SpecError> {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    if security.is_some_and(|security| security.privileged) {
        return Err(SpecError::Unsupported("privileged mode"));
    }
    if !config.devices.is_empty() || !config.cdi_devices.is_empty() {
        return Err(SpecError::Unsupported("a host device"));
    }
    Ok(())
}

/// The command in place of the image's entry point, then the arguments. Its first word is
/// the program's name by custom; a module has none, so its container's name stands in.
fn arguments(config: &ContainerConfig) -> Vec<String> {
    let mut args = config.command.clone();
    if args.is_empty() {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone());
        args.push(name.unwrap_or_default());
    }
    args.extend_from_slice(&config.args);
    args
}

/// As given, later entries of a name over earlier ones, and `HOSTNAME` and `PWD` as a
/// shell would have them.
fn environment(config: &ContainerConfig, hostname: &str) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::with_capacity(config.envs.len() + 2);
    if !hostname.is_empty() {
        env.push(("HOSTNAME".to_owned(), hostname.to_owned()));
    }
    if !config.working_dir.is_empty() {
        env.push(("PWD".to_owned(), config.working_dir.clone()));
    }
    for given in &config.envs {
        match env.iter_mut().find(|(name, _)| *name == given.key) {
            Some((_, value)) => value.clone_from(&given.value),
            None => env.push((given.key.clone(), given.value.clone())),
        }
    }
    env
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    container_port: u16,
    #[serde(default)]
    protocol: String,
}

fn port(config: &ContainerConfig) -> Result<u16, SpecError> {
    let Some(text) = config.annotations.get(PORTS_ANNOTATION).filter(|text| !text.is_empty()) else {
        return Ok(PORT_DEFAULT);
    };
    let ports: Vec<ContainerPort> =
        serde_json::from_str(text).map_err(|error| SpecError::Ports(error.to_string()))?;
    let tcp = ports.iter().find(|port| matches!(port.protocol.as_str(), "" | "TCP"));
    Ok(tcp.map_or(PORT_DEFAULT, |port| port.container_port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_cri::runtime::v1::{ContainerMetadata, KeyValue};

    fn spec(config: &ContainerConfig) -> Result<GuestSpec, SpecError> {
        let sandbox = PodSandboxConfig { hostname: "pod-1".to_owned(), ..Default::default() };
        GuestSpec::new(config, &sandbox, Path::new("/nonexistent"))
    }

    fn named(name: &str) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            ..Default::default()
        }
    }

    #[test]
    fn arguments_and_environment() {
        let mut config = named("app");
        config.args = vec!["-v".to_owned()];
        let pair = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: value.to_owned() };
        config.envs = vec![pair("A", "1"), pair("HOSTNAME", "mine"), pair("A", "2")];
        let given = spec(&config).unwrap();
        assert_eq!(given.args, ["app", "-v"]);
        let env: Vec<_> = given.env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(env, [("HOSTNAME", "mine"), ("A", "2")]);
        config.command = vec!["/bin/tool".to_owned()];
        assert_eq!(spec(&config).unwrap().args, ["/bin/tool", "-v"]);
        config.args = vec!["x".repeat(ARGUMENT_BYTES_MAX)];
        assert_eq!(spec(&config), Err(SpecError::TooLarge));
    }

    #[test]
    fn the_first_tcp_port_is_served() {
        for (ports, expected) in [
            ("", Some(8080)),
            ("[]", Some(8080)),
            (r#"[{"containerPort":80,"protocol":"TCP"}]"#, Some(80)),
            (r#"[{"name":"d","containerPort":53,"protocol":"UDP"},{"containerPort":81}]"#, Some(81)),
            (r#"[{"containerPort":70000}]"#, None),
            ("8080", None),
        ] {
            let mut config = named("app");
            config.annotations.insert(PORTS_ANNOTATION.to_owned(), ports.to_owned());
            assert_eq!(spec(&config).ok().map(|spec| spec.port), expected, "{ports}");
        }
    }

    #[test]
    fn the_host_is_out_of_reach() {
        let mut config = named("app");
        config.devices.push(Default::default());
        assert_eq!(spec(&config), Err(SpecError::Unsupported("a host device")));
    }
}
