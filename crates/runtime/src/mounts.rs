//! Mounts of a container as directories that its guest may open.
//!
//! A mounted directory is opened as it is. WASI knows no mount of a single file, so one
//! is put into a directory of the container's own, which the guest sees in place of the
//! file's parent: a read-only file as a copy made when the container is created (which is
//! what Kubernetes promises of `subPath`: no later change shows), a writable one as a hard
//! link, so that what the guest writes is in the host's file. Several files of one parent
//! share its directory, which is writable if one of them is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use coracle_cri::runtime::v1::Mount;

use crate::spec::{Directory, SpecError};

/// Largest read-only file that is copied into a container, in bytes: ConfigMaps and
/// Secrets have at most 1 MiB. A larger one is refused.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The directories a guest sees for `mounts`, those of single files made in `files_dir`.
///
/// # Errors
/// When a path is not absolute, its source is absent, or a file cannot be put in place.
pub(crate) fn directories(mounts: &[Mount], files_dir: &Path) -> Result<Vec<Directory>, SpecError> {
    let mut directories = Vec::new();
    let mut parents: BTreeMap<String, Directory> = BTreeMap::new();
    for mount in mounts {
        if mount.image.is_some() {
            return Err(SpecError::Unsupported("an image volume"));
        }
        let guest = guest_path(&mount.container_path)?;
        let host = Path::new(&mount.host_path);
        let source = fs::metadata(host).map_err(|error| failed(host, &error))?;
        if source.is_dir() {
            directories.push(Directory { host: host.to_path_buf(), guest, readonly: mount.readonly });
            continue;
        }
        let (parent, name) = guest.rsplit_once('/').unwrap_or(("", &guest));
        let parent = if parent.is_empty() { "/" } else { parent };
        let number = parents.len();
        let directory = parents.entry(parent.to_owned()).or_insert_with(|| Directory {
            host: files_dir.join(number.to_string()),
            guest: parent.to_owned(),
            readonly: true,
        });
        directory.readonly &= mount.readonly;
        place(host, &directory.host, name, mount.readonly, source.len())?;
    }
    directories.extend(parents.into_values());
    Ok(directories)
}

fn guest_path(path: &str) -> Result<String, SpecError> {
    let invalid = || SpecError::MountPath(path.to_owned());
    let mut parts = Path::new(path).components();
    if parts.next() != Some(Component::RootDir) {
        return Err(invalid());
    }
    let mut clean = String::new();
    for part in parts {
        match part {
            Component::Normal(name) => {
                clean.push('/');
                clean.push_str(name.to_str().ok_or_else(invalid)?);
            }
            Component::CurDir => {}
            _ => return Err(invalid()),
        }
    }
    Ok(if clean.is_empty() { "/".to_owned() } else { clean })
}

fn place(host: &Path, dir: &Path, name: &str, readonly: bool, bytes: u64) -> Result<(), SpecError> {
    let target: PathBuf = dir.join(name);
    let failed = |error: &std::io::Error| failed(host, error);
    fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    match fs::remove_file(&target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    if !readonly {
        // The link must be to the file itself, as a mount would be.
        let real = fs::canonicalize(host).map_err(|error| failed(&error))?;
        return fs::hard_link(real, &target).map_err(|error| failed(&error));
    }
    if bytes > FILE_BYTES_MAX {
        return Err(SpecError::Mount {
            host: host.display().to_string(),
            problem: format!("a single file may have {FILE_BYTES_MAX} bytes; mount its directory"),
        });
    }
    fs::copy(host, &target).map_err(|error| failed(&error))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o444)).map_err(|error| failed(&error))
}

fn failed(host: &Path, error: &std::io::Error) -> SpecError {
    SpecError::Mount { host: host.display().to_string(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(host: &Path, guest: &str, readonly: bool) -> Mount {
        Mount {
            host_path: host.display().to_string(),
            container_path: guest.to_owned(),
            readonly,
            ..Default::default()
        }
    }

    #[test]
    fn directories_stay_and_files_are_gathered() {
        let dir = tempfile::tempdir().unwrap();
        let (host, own) = (dir.path().join("host"), dir.path().join("own"));
        fs::create_dir(&host).unwrap();
        for file in ["hosts", "conf", "log"] {
            fs::write(host.join(file), file).unwrap();
        }
        let mounts = [
            mount(&host, "/data/", true),
            mount(&host.join("hosts"), "/etc/hosts", true),
            mount(&host.join("conf"), "/etc/app.conf", true),
            mount(&host.join("log"), "/dev/termination-log", false),
        ];
        let seen = directories(&mounts, &own).unwrap();
        let rows: Vec<_> = seen.iter().map(|d| (d.guest.as_str(), d.readonly)).collect();
        assert_eq!(rows, [("/data", true), ("/dev", false), ("/etc", true)]);
        let etc = &seen[2].host;
        assert_eq!(fs::read_to_string(etc.join("app.conf")).unwrap(), "conf");
        fs::write(host.join("conf"), "changed").unwrap();
        assert_eq!(fs::read_to_string(etc.join("app.conf")).unwrap(), "conf");
        fs::write(seen[1].host.join("termination-log"), "bye").unwrap();
        assert_eq!(fs::read_to_string(host.join("log")).unwrap(), "bye");
        // A second attempt finds its own files of the first.
        directories(&mounts, &own).unwrap();
    }

    #[test]
    fn what_cannot_be_mounted_says_why() {
        let own = Path::new("/nonexistent/own");
        let bad = directories(&[mount(Path::new("/"), "etc", true)], own).unwrap_err();
        assert_eq!(bad, SpecError::MountPath("etc".to_owned()));
        assert!(directories(&[mount(Path::new("/"), "/a/../b", true)], own).is_err());
        let absent = directories(&[mount(Path::new("/nonexistent"), "/x", true)], own);
        assert!(matches!(absent, Err(SpecError::Mount { .. })));
    }
}
