//! Which files a volume made of API objects holds. Writing them is the driver's part.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection,
};

use super::field::{self, Addresses, FieldError};
use super::sources::{Sources, TOKEN_EXPIRATION_DEFAULT_S, TokenRef};
use super::view::NodeFacts;

/// The mode of files when the pod does not say.
const MODE_DEFAULT: i32 = 0o644;

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its bytes.
    pub data: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Files by their path below the volume's root; every path is relative and stays inside.
pub type Payload = BTreeMap<String, File>;

/// What a volume is, as far as this kubelet can make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeKind<'a> {
    /// An empty directory with the pod's life.
    EmptyDir,
    /// Files from API objects: see [`payload`].
    Files,
    /// A directory or file of the node.
    HostPath(&'a str),
    /// Anything else, by its field name.
    Unsupported(&'static str),
}

/// Why a volume cannot be set up, as the user will read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// The object is missing and not optional.
    #[error("{kind} \"{name}\" not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object lacks a key that `items` names.
    #[error("{kind} \"{name}\" references non-existent config key: {key}")]
    Key {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A path would leave the volume.
    #[error("invalid path {0:?}: must be relative and must not contain '..'")]
    Path(String),
    /// A reference to the pod's own fields.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The token could not be had.
    #[error("no token for audience {0:?}")]
    Token(String),
    /// A projection that is not offered.
    #[error("projected source {0} is not supported by this kubelet")]
    Projection(&'static str),
}

/// What `volume` is.
pub fn kind(volume: &Volume) -> VolumeKind<'_> {
    if let Some(path) = &volume.host_path {
        return VolumeKind::HostPath(&path.path);
    }
    if volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
    {
        return VolumeKind::Files;
    }
    match unsupported(volume) {
        Some(name) => VolumeKind::Unsupported(name),
        None => VolumeKind::EmptyDir,
    }
}

/// The files of a volume whose kind is [`VolumeKind::Files`].
pub fn payload(
    volume: &Volume,
    pod: &Pod,
    node: &NodeFacts,
    sources: &Sources,
) -> Result<Payload, VolumeError> {
    let mut out = Payload::new();
    if let Some(v) = &volume.config_map {
        let selection = Selection::new("configmap", &v.name, v.items.as_ref(), v.optional);
        selection.add(config_map_files(sources.config_map(&v.name)), v.default_mode, &mut out)?;
    }
    if let Some(v) = &volume.secret {
        let name = v.secret_name.as_deref().unwrap_or_default();
        let selection = Selection::new("secret", name, v.items.as_ref(), v.optional);
        selection.add(secret_files(sources.secret(name)), v.default_mode, &mut out)?;
    }
    if let Some(v) = &volume.downward_api {
        add_downward(v.items.as_ref(), pod, node, v.default_mode, &mut out)?;
    }
    if let Some(v) = &volume.projected {
        for projection in v.sources.iter().flatten() {
            add_projection(projection, pod, node, sources, v.default_mode, &mut out)?;
        }
    }
    Ok(out)
}

/// Whether `path` is relative and names something strictly inside the directory that it is
/// relative to.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| part != ".." && part != ".")
        && path.split('/').any(|part| !part.is_empty())
}

fn add_projection(
    projection: &VolumeProjection,
    pod: &Pod,
    node: &NodeFacts,
    sources: &Sources,
    mode: Option<i32>,
    out: &mut Payload,
) -> Result<(), VolumeError> {
    if let Some(p) = &projection.config_map {
        let selection = Selection::new("configmap", &p.name, p.items.as_ref(), p.optional);
        selection.add(config_map_files(sources.config_map(&p.name)), mode, out)?;
    }
    if let Some(p) = &projection.secret {
        let selection = Selection::new("secret", &p.name, p.items.as_ref(), p.optional);
        selection.add(secret_files(sources.secret(&p.name)), mode, out)?;
    }
    if let Some(p) = &projection.downward_api {
        add_downward(p.items.as_ref(), pod, node, mode, out)?;
    }
    if let Some(p) = &projection.service_account_token {
        let reference = TokenRef {
            audience: p.audience.clone().unwrap_or_default(),
            expiration_s: p.expiration_seconds.unwrap_or(TOKEN_EXPIRATION_DEFAULT_S),
        };
        let token = sources.tokens.get(&reference);
        let token = token.ok_or_else(|| VolumeError::Token(reference.audience.clone()))?;
        put(out, &p.path, token.clone().into_bytes(), None, mode)?;
    }
    if projection.cluster_trust_bundle.is_some() {
        return Err(VolumeError::Projection("clusterTrustBundle"));
    }
    if projection.pod_certificate.is_some() {
        return Err(VolumeError::Projection("podCertificate"));
    }
    Ok(())
}

/// Which keys of an object become which files.
struct Selection<'a> {
    kind: &'static str,
    name: &'a str,
    items: &'a [KeyToPath],
    optional: bool,
}

impl<'a> Selection<'a> {
    fn new(
        kind: &'static str,
        name: &'a str,
        items: Option<&'a Vec<KeyToPath>>,
        optional: Option<bool>,
    ) -> Self {
        let items = items.map(Vec::as_slice).unwrap_or_default();
        Self { kind, name, items, optional: optional == Some(true) }
    }

    /// Adds the files of an object whose keys are `found`; `None` when it does not exist.
    fn add(
        &self,
        found: Option<BTreeMap<String, Vec<u8>>>,
        mode: Option<i32>,
        out: &mut Payload,
    ) -> Result<(), VolumeError> {
        let Some(found) = found else {
            let missing = VolumeError::Missing { kind: self.kind, name: self.name.to_owned() };
            return if self.optional { Ok(()) } else { Err(missing) };
        };
        if self.items.is_empty() {
            for (key, data) in found {
                put(out, &key, data, None, mode)?;
            }
            return Ok(());
        }
        for item in self.items {
            match found.get(&item.key) {
                Some(data) => put(out, &item.path, data.clone(), item.mode, mode)?,
                None if self.optional => {}
                None => {
                    return Err(VolumeError::Key {
                        kind: self.kind,
                        name: self.name.to_owned(),
                        key: item.key.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn add_downward(
    items: Option<&Vec<DownwardAPIVolumeFile>>,
    pod: &Pod,
    node: &NodeFacts,
    mode: Option<i32>,
    out: &mut Payload,
) -> Result<(), VolumeError> {
    for item in items.into_iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => field::field(&selector.field_path, pod, node, Addresses::default())?,
            (None, Some(selector)) => field::resource(selector, pod, None, node)?,
            (None, None) => continue,
        };
        put(out, &item.path, text.into_bytes(), item.mode, mode)?;
    }
    Ok(())
}

fn put(
    out: &mut Payload,
    path: &str,
    data: Vec<u8>,
    own_mode: Option<i32>,
    default_mode: Option<i32>,
) -> Result<(), VolumeError> {
    if !is_inside(path) {
        return Err(VolumeError::Path(path.to_owned()));
    }
    let mode = own_mode.or(default_mode).unwrap_or(MODE_DEFAULT);
    let mode = u32::try_from(mode).unwrap_or(0o600) & 0o777;
    out.insert(path.to_owned(), File { data, mode });
    Ok(())
}

fn config_map_files(map: Option<&ConfigMap>) -> Option<BTreeMap<String, Vec<u8>>> {
    let map = map?;
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    Some(text.chain(bytes(map.binary_data.as_ref())).collect())
}

fn secret_files(secret: Option<&Secret>) -> Option<BTreeMap<String, Vec<u8>>> {
    Some(bytes(secret?.data.as_ref()).collect())
}

fn bytes(map: Option<&BTreeMap<String, ByteString>>) -> impl Iterator<Item = (String, Vec<u8>)> {
    map.into_iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()))
}

/// The name of the source of a volume that is neither of those above nor an emptyDir.
fn unsupported(v: &Volume) -> Option<&'static str> {
    [
        (v.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (v.azure_disk.is_some(), "azureDisk"),
        (v.azure_file.is_some(), "azureFile"),
        (v.cephfs.is_some(), "cephfs"),
        (v.cinder.is_some(), "cinder"),
        (v.csi.is_some(), "csi"),
        (v.ephemeral.is_some(), "ephemeral"),
        (v.fc.is_some(), "fc"),
        (v.flex_volume.is_some(), "flexVolume"),
        (v.flocker.is_some(), "flocker"),
        (v.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (v.git_repo.is_some(), "gitRepo"),
        (v.glusterfs.is_some(), "glusterfs"),
        (v.image.is_some(), "image"),
        (v.iscsi.is_some(), "iscsi"),
        (v.nfs.is_some(), "nfs"),
        (v.persistent_volume_claim.is_some(), "persistentVolumeClaim"),
        (v.photon_persistent_disk.is_some(), "photonPersistentDisk"),
        (v.portworx_volume.is_some(), "portworxVolume"),
        (v.quobyte.is_some(), "quobyte"),
        (v.rbd.is_some(), "rbd"),
        (v.scale_io.is_some(), "scaleIO"),
        (v.storageos.is_some(), "storageos"),
        (v.vsphere_volume.is_some(), "vsphereVolume"),
    ]
    .into_iter()
    .find_map(|(present, name)| present.then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn volume(value: Value) -> Volume {
        serde_json::from_value(value).unwrap()
    }

    fn files(value: Value) -> Result<Vec<String>, VolumeError> {
        let map: ConfigMap = serde_json::from_value(json!({
            "data": {"a": "1", "b": "2"}, "binaryData": {"c": "Aw=="}}))
        .unwrap();
        let mut sources = Sources::default();
        sources.config_maps.insert("cm".into(), Some(Arc::new(map)));
        let token = TokenRef { audience: String::new(), expiration_s: 3607 };
        sources.tokens.insert(token, "jwt".into());
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}})).unwrap();
        let out = payload(&volume(value), &pod, &NodeFacts::default(), &sources)?;
        Ok(out
            .iter()
            .map(|(path, f)| format!("{path} {:o} {}", f.mode, String::from_utf8_lossy(&f.data)))
            .collect())
    }

    #[test]
    fn whole_objects_and_items() {
        let whole = files(json!({"name": "v", "configMap": {"name": "cm", "defaultMode": 0o600}}));
        assert_eq!(whole.unwrap(), ["a 600 1", "b 600 2", "c 600 \u{3}"]);
        let items = files(json!({"name": "v", "configMap": {"name": "cm", "items": [
            {"key": "a", "path": "etc/x", "mode": 0o400}]}}));
        assert_eq!(items.unwrap(), ["etc/x 400 1"]);
    }

    #[test]
    fn the_service_account_volume() {
        let out = files(json!({"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]}}));
        assert_eq!(out.unwrap(), ["ca.crt 644 1", "namespace 644 ns", "token 644 jwt"]);
    }

    #[test]
    fn errors_name_what_is_missing() {
        for (source, message) in [
            (json!({"configMap": {"name": "x"}}), "configmap \"x\" not found"),
            (
                json!({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}),
                "configmap \"cm\" references non-existent config key: z",
            ),
            (
                json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../a"}]}}),
                "invalid path \"../a\": must be relative and must not contain '..'",
            ),
        ] {
            let mut value = source;
            value["name"] = json!("v");
            assert_eq!(files(value).unwrap_err().to_string(), message);
        }
        let optional = files(json!({"name": "v", "configMap": {"name": "x", "optional": true}}));
        assert!(optional.unwrap().is_empty());
    }

    #[test]
    fn kinds_and_paths() {
        assert_eq!(kind(&volume(json!({"name": "v"}))), VolumeKind::EmptyDir);
        assert_eq!(kind(&volume(json!({"name": "v", "emptyDir": {}}))), VolumeKind::EmptyDir);
        let nfs = volume(json!({"name": "v", "nfs": {"server": "s", "path": "/"}}));
        assert_eq!(kind(&nfs), VolumeKind::Unsupported("nfs"));
        for (path, inside) in [
            ("a", true),
            ("a/b", true),
            ("a..b", true),
            ("", false),
            ("/a", false),
            ("a/../b", false),
            (".", false),
        ] {
            assert_eq!(is_inside(path), inside, "{path:?}");
        }
    }
}
