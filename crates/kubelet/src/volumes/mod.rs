//! Directories and files for pods, below `<state>/pods/<uid>/volumes`.
//!
//! Nothing that a pod says leads out of its own directory: names of volumes are checked,
//! and `subPath` is followed component by component, refusing links that leave the volume.

mod atomic;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use coracle_cri::runtime::v1 as cri;
use coracle_plan::kubelet::NodeFacts;
use coracle_plan::kubelet::env::expand_all;
use coracle_plan::kubelet::sources::Sources;
use coracle_plan::kubelet::volume::{VolumeError, VolumeKind, is_inside, kind, payload};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume, VolumeMount};

use crate::config::Config;

/// Why a pod's volume cannot be used, as the user will read it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Content { volume: String, source: VolumeError },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Io { volume: String, source: io::Error },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : hostPath is not allowed on this node: its administrator must set allow_host_path"
    )]
    HostPath { volume: String },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : {kind} volumes are not supported by this kubelet"
    )]
    Unsupported { volume: String, kind: &'static str },
    #[error("the pod has no volume \"{volume}\"")]
    Unknown { volume: String },
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\": {reason}")]
    SubPath { volume: String, container: String, reason: String },
}

/// Sets up every volume of a pod, or brings their contents up to date.
pub(crate) fn set_up(
    config: &Config,
    uid: &str,
    pod: &Pod,
    spec: &PodSpec,
    node: &NodeFacts,
    sources: &Sources,
) -> Result<(), MountError> {
    for volume in spec.volumes.iter().flatten() {
        let dir = volume_dir(config, uid, volume);
        let io_error = |source| MountError::Io { volume: volume.name.clone(), source };
        match kind(volume) {
            VolumeKind::EmptyDir => make_empty_dir(&dir).map_err(io_error)?,
            VolumeKind::Files => {
                let files = payload(volume, pod, node, sources)
                    .map_err(|source| MountError::Content { volume: volume.name.clone(), source })?;
                atomic::write(&dir, &files).map_err(io_error)?;
            }
            VolumeKind::HostPath(path) => {
                if !config.allow_host_path {
                    return Err(MountError::HostPath { volume: volume.name.clone() });
                }
                check_host_path(volume, Path::new(path)).map_err(io_error)?;
            }
            VolumeKind::Unsupported(kind) => {
                return Err(MountError::Unsupported { volume: volume.name.clone(), kind });
            }
        }
    }
    Ok(())
}

/// Removes everything that a pod has on disk.
pub(crate) fn tear_down(config: &Config, uid: &str) -> io::Result<()> {
    if !is_inside(uid) {
        return Ok(());
    }
    match fs::remove_dir_all(pod_dir(config, uid)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The uids of pods that have something on disk.
pub(crate) fn left_on_disk(config: &Config) -> Vec<String> {
    let Ok(entries) = fs::read_dir(config.state_dir.join("pods")) else { return Vec::new() };
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// The mounts of one container; `environment` is for `subPathExpr`.
pub(crate) fn mounts(
    config: &Config,
    uid: &str,
    spec: &PodSpec,
    container: &Container,
    environment: &[(String, String)],
) -> Result<Vec<cri::Mount>, MountError> {
    let mut out = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = spec
            .volumes
            .iter()
            .flatten()
            .find(|v| v.name == mount.name)
            .ok_or_else(|| MountError::Unknown { volume: mount.name.clone() })?;
        let host_path = host_path(config, uid, volume, mount, container, environment)?;
        // What the kubelet keeps up to date is not the container's to change.
        let managed = matches!(kind(volume), VolumeKind::Files);
        out.push(cri::Mount {
            container_path: mount.mount_path.clone(),
            host_path: host_path.to_string_lossy().into_owned(),
            readonly: mount.read_only.unwrap_or(false) || managed,
            ..Default::default()
        });
    }
    Ok(out)
}

fn host_path(
    config: &Config,
    uid: &str,
    volume: &Volume,
    mount: &VolumeMount,
    container: &Container,
    environment: &[(String, String)],
) -> Result<PathBuf, MountError> {
    let root = match kind(volume) {
        VolumeKind::HostPath(path) => PathBuf::from(path),
        _ => volume_dir(config, uid, volume),
    };
    let sub = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(expr), _) if !expr.is_empty() => expand_all(std::slice::from_ref(expr), environment).concat(),
        (_, Some(path)) => path.clone(),
        _ => String::new(),
    };
    if sub.is_empty() {
        return Ok(root);
    }
    let create = !matches!(kind(volume), VolumeKind::Files);
    sub_path(&root, &sub, create).map_err(|reason| MountError::SubPath {
        volume: volume.name.clone(),
        container: container.name.clone(),
        reason,
    })
}

/// `sub` below `root`, with its links followed as long as they stay inside; directories
/// that are not there are made if `create`.
fn sub_path(root: &Path, sub: &str, create: bool) -> Result<PathBuf, String> {
    if !is_inside(sub) {
        return Err(format!("{sub:?} must be relative and must not contain '..'"));
    }
    let root = root.canonicalize().map_err(|e| e.to_string())?;
    let mut at = root.clone();
    for part in sub.split('/').filter(|part| !part.is_empty()) {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_symlink() => {
                at = at.canonicalize().map_err(|e| format!("{sub:?}: {e}"))?;
                if !at.starts_with(&root) {
                    return Err(format!("{sub:?} leads out of the volume"));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                fs::create_dir(&at).map_err(|e| format!("{sub:?}: {e}"))?;
            }
            Err(error) => return Err(format!("{sub:?}: {error}")),
        }
    }
    Ok(at)
}

fn pod_dir(config: &Config, uid: &str) -> PathBuf {
    config.state_dir.join("pods").join(uid)
}

/// `<pod>/volumes/kubernetes.io~<plugin>/<name>`, as kubelets lay it out. Names of volumes
/// are DNS labels; anything else stays harmless by losing its separators.
fn volume_dir(config: &Config, uid: &str, volume: &Volume) -> PathBuf {
    let plugin = if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else {
        "kubernetes.io~empty-dir"
    };
    let name = volume.name.replace(['/', '\0'], "_");
    let name = if name.starts_with("..") { name.replace('.', "_") } else { name };
    pod_dir(config, uid).join("volumes").join(plugin).join(name)
}

fn make_empty_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777))
}

fn check_host_path(volume: &Volume, path: &Path) -> io::Result<()> {
    let wanted = volume.host_path.as_ref().and_then(|h| h.type_.as_deref()).unwrap_or_default();
    let wrong = |what: &str| {
        Err(io::Error::other(format!("hostPath type check failed: {} is not {what}", path.display())))
    };
    match wanted {
        "DirectoryOrCreate" => fs::create_dir_all(path),
        "Directory" if !path.is_dir() => wrong("a directory"),
        "File" if !path.is_file() => wrong("a file"),
        "FileOrCreate" if !path.exists() => fs::File::create(path).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::symlink;

    fn config(dir: &Path) -> Config {
        Config { state_dir: dir.to_owned(), ..Config::default() }
    }

    fn pod(volume: serde_json::Value, mount: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"volumes": [volume], "containers": [{"name": "c", "volumeMounts": [mount]}]}
        }))
        .unwrap()
    }

    fn run(config: &Config, pod: &Pod) -> Result<Vec<cri::Mount>, MountError> {
        let spec = pod.spec.as_ref().unwrap();
        let sources = Sources::default();
        set_up(config, "u", pod, spec, &NodeFacts::default(), &sources)?;
        mounts(config, "u", spec, &spec.containers[0], &[("X".into(), "one".into())])
    }

    #[test]
    fn empty_dir_with_sub_path() {
        let temp = tempfile::tempdir().unwrap();
        let config = config(temp.path());
        let pod = pod(
            json!({"name": "v", "emptyDir": {}}),
            json!({"name": "v", "mountPath": "/data", "subPathExpr": "a/$(X)"}),
        );
        let mounts = run(&config, &pod).unwrap();
        assert_eq!(mounts[0].container_path, "/data");
        assert!(mounts[0].host_path.ends_with("kubernetes.io~empty-dir/v/a/one"));
        assert!(Path::new(&mounts[0].host_path).is_dir() && !mounts[0].readonly);
        assert_eq!(left_on_disk(&config), ["u"]);
        tear_down(&config, "u").unwrap();
        assert!(left_on_disk(&config).is_empty());
        tear_down(&config, "../..").unwrap();
    }

    #[test]
    fn links_and_dots_do_not_lead_out() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("v");
        fs::create_dir(&root).unwrap();
        symlink("/etc", root.join("out")).unwrap();
        fs::create_dir(root.join("in")).unwrap();
        symlink("in", root.join("link")).unwrap();
        assert!(sub_path(&root, "out/passwd", false).unwrap_err().contains("leads out"));
        assert!(sub_path(&root, "../x", true).is_err());
        assert!(sub_path(&root, "/x", true).is_err());
        assert!(sub_path(&root, "link", false).unwrap().ends_with("in"));
        assert!(sub_path(&root, "absent", false).is_err());
    }

    #[test]
    fn what_is_not_offered_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let config = config(temp.path());
        let mount = json!({"name": "v", "mountPath": "/x"});
        let host = pod(json!({"name": "v", "hostPath": {"path": "/"}}), mount.clone());
        let error = run(&config, &host).unwrap_err().to_string();
        assert!(error.contains("hostPath is not allowed"), "{error}");
        let nfs = pod(json!({"name": "v", "nfs": {"server": "s", "path": "/"}}), mount.clone());
        let error = run(&config, &nfs).unwrap_err().to_string();
        assert!(error.contains("nfs volumes are not supported"), "{error}");
        let map = pod(json!({"name": "v", "configMap": {"name": "gone"}}), mount);
        let error = run(&config, &map).unwrap_err().to_string();
        assert_eq!(error, "MountVolume.SetUp failed for volume \"v\" : configmap \"gone\" not found");
    }
}
