//! Files that a crash cannot tear: written aside, synced, renamed; and the lock that
//! keeps two writers of one directory apart.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { action, path, source }
    }
}

/// Makes `path` and its parents, private to this user.
pub(crate) fn create_dir(path: &Path) -> Result<(), DiskError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(DiskError::new("create directory", path))
}

/// Replaces `path` with `parts` joined. After it returns, the new content survives a
/// power loss; before, the old content is untouched.
pub(crate) fn replace(path: &Path, parts: &[&[u8]]) -> Result<(), DiskError> {
    let aside = aside(path);
    let written =
        write_synced(&aside, parts).and_then(|()| fs::rename(&aside, path)).and_then(|()| sync_parent(path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written.map_err(DiskError::new("write", path))
}

/// Writes `path` unless it exists, in one step. False when it does.
pub(crate) fn create_once(path: &Path, content: &[u8]) -> Result<bool, DiskError> {
    let aside = aside(path);
    let linked = write_synced(&aside, &[content]).and_then(|()| match fs::hard_link(&aside, path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    });
    let _ = fs::remove_file(&aside);
    linked.map_err(DiskError::new("write", path))
}

/// The file's bytes, or none when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::new("read", path)(error)),
    }
}

/// Removes a file; that it is gone already is success.
pub(crate) fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::new("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Waits for, and holds until dropped, the exclusive lock of a directory's writers.
pub(crate) fn lock(path: &Path) -> Result<File, DiskError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(DiskError::new("open", path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(io::Error::from)
        .map_err(DiskError::new("lock", path))?;
    Ok(file)
}

/// A name in the same directory that no other writer uses.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{:016x}.tmp", rand::random::<u64>()));
    path.with_file_name(name)
}

fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
