//! What the runtime must know after a restart, one file per sandbox and per container.
//!
//! ```text
//! <dir>/lock               held by the running runtime
//! <dir>/VERSION            {"format":1,"oldest_reader":1}
//! <dir>/pod-cidr           the node's pod range, as text
//! <dir>/sandboxes/<id>     a SandboxRecord
//! <dir>/containers/<id>    a ContainerRecord
//! <dir>/files/<id>/        single files that are mounted into a container
//! ```
//!
//! A record is the four bytes `CRC1` and a protobuf message whose fields are below. It is
//! written aside and renamed, but not synced: after a power loss no container runs, and a
//! record that was lost or torn is one that nothing needs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use coracle_cri::runtime::v1 as cri;
use parking_lot::Mutex;
use prost::Message;

const MAGIC: &[u8; 4] = b"CRC1";
const FORMAT: u32 = 1;
const VERSION: &str = r#"{"format":1,"oldest_reader":1}"#;

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another runtime has it.
    #[error("{0} is in use by another runtime")]
    Locked(PathBuf),
    /// A newer version wrote it.
    #[error("{0} was written by a newer version; use that version, or another directory")]
    Newer(PathBuf),
    /// It cannot be read or written.
    #[error("cannot use {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A sandbox on disk.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SandboxRecord {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) config: Option<cri::PodSandboxConfig>,
    #[prost(string, tag = "3")]
    pub(crate) runtime_handler: String,
    /// Nanoseconds since 1970, as all times here.
    #[prost(int64, tag = "4")]
    pub(crate) created_at: i64,
    #[prost(bool, tag = "5")]
    pub(crate) ready: bool,
    #[prost(string, tag = "6")]
    pub(crate) ip: String,
}

/// A container on disk.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerRecord {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) config: Option<cri::ContainerConfig>,
    /// `sha256:…` of the module.
    #[prost(string, tag = "4")]
    pub(crate) image_id: String,
    /// The digested or tagged name that the image had.
    #[prost(string, tag = "5")]
    pub(crate) image_ref: String,
    #[prost(int64, tag = "6")]
    pub(crate) created_at: i64,
    #[prost(int64, tag = "7")]
    pub(crate) started_at: i64,
    #[prost(int64, tag = "8")]
    pub(crate) finished_at: i64,
    #[prost(int32, tag = "9")]
    pub(crate) exit_code: i32,
    #[prost(string, tag = "10")]
    pub(crate) reason: String,
    #[prost(string, tag = "11")]
    pub(crate) message: String,
}

/// The state directory, locked until released or dropped.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
    lock: Mutex<Option<File>>,
}

impl Records {
    pub(crate) fn open(dir: &Path) -> Result<Self, StateError> {
        for sub in ["sandboxes", "containers", "files"] {
            let path = dir.join(sub);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(io_error(&path))?;
        }
        let lock = lock(dir)?;
        check_version(dir)?;
        Ok(Self { dir: dir.to_path_buf(), lock: Mutex::new(Some(lock)) })
    }

    /// Leaves the directory to the next runtime.
    pub(crate) fn release(&self) {
        self.lock.lock().take();
    }

    pub(crate) fn sandboxes(&self) -> Vec<SandboxRecord> {
        self.read_all("sandboxes")
    }

    pub(crate) fn containers(&self) -> Vec<ContainerRecord> {
        self.read_all("containers")
    }

    pub(crate) fn put_sandbox(&self, record: &SandboxRecord) -> Result<(), StateError> {
        self.put("sandboxes", &record.id, record)
    }

    pub(crate) fn put_container(&self, record: &ContainerRecord) -> Result<(), StateError> {
        self.put("containers", &record.id, record)
    }

    pub(crate) fn remove_sandbox(&self, id: &str) {
        let _ = fs::remove_file(self.dir.join("sandboxes").join(id));
    }

    pub(crate) fn remove_container(&self, id: &str) {
        let _ = fs::remove_dir_all(self.files_dir(id));
        let _ = fs::remove_file(self.dir.join("containers").join(id));
    }

    /// Where single files of a container go. Not there until one does.
    pub(crate) fn files_dir(&self, id: &str) -> PathBuf {
        self.dir.join("files").join(id)
    }

    pub(crate) fn pod_cidr(&self) -> Option<String> {
        fs::read_to_string(self.dir.join("pod-cidr")).ok()
    }

    pub(crate) fn put_pod_cidr(&self, cidr: &str) -> Result<(), StateError> {
        replace(&self.dir.join("pod-cidr"), &[cidr.as_bytes()])
    }

    fn put(&self, kind: &str, id: &str, record: &impl Message) -> Result<(), StateError> {
        replace(&self.dir.join(kind).join(id), &[MAGIC, &record.encode_to_vec()])
    }

    fn read_all<R: Message + Default>(&self, kind: &str) -> Vec<R> {
        let entries = fs::read_dir(self.dir.join(kind)).into_iter().flatten().flatten();
        entries.filter_map(|entry| read_or_drop(&entry.path())).collect()
    }
}

/// A record, or none where a crash left something else: that is removed.
fn read_or_drop<R: Message + Default>(path: &Path) -> Option<R> {
    let bytes = fs::read(path).unwrap_or_default();
    let record = bytes.strip_prefix(MAGIC).and_then(|body| R::decode(body).ok());
    if record.is_none() {
        tracing::warn!(path = %path.display(), "not a record; removed");
        let _ = fs::remove_file(path);
    }
    record
}

fn replace(path: &Path, parts: &[&[u8]]) -> Result<(), StateError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        fs::rename(&aside, path)
    };
    write().map_err(io_error(path))
}

fn lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error(&path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| StateError::Locked(dir.to_path_buf()))?;
    Ok(file)
}

#[derive(serde::Deserialize)]
struct VersionFile {
    oldest_reader: u32,
}

fn check_version(dir: &Path) -> Result<(), StateError> {
    let path = dir.join("VERSION");
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => replace(&path, &[VERSION.as_bytes()]),
        Err(error) => Err(io_error(&path)(error)),
        Ok(bytes) => match serde_json::from_slice::<VersionFile>(&bytes) {
            Ok(version) if version.oldest_reader > FORMAT => Err(StateError::Newer(path)),
            Ok(_) => Ok(()),
            // Torn by a power loss: nothing runs, and this version's records follow.
            Err(_) => replace(&path, &[VERSION.as_bytes()]),
        },
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |source| StateError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_rubbish_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let record = SandboxRecord { id: "a".to_owned(), ready: true, ..Default::default() };
        records.put_sandbox(&record).unwrap();
        fs::write(dir.path().join("sandboxes/b"), "torn").unwrap();
        assert!(matches!(Records::open(dir.path()), Err(StateError::Locked(_))));
        drop(records);
        let records = Records::open(dir.path()).unwrap();
        assert_eq!(records.sandboxes(), [record]);
        records.remove_sandbox("a");
        assert!(records.sandboxes().is_empty());
        assert!(!dir.path().join("sandboxes/b").exists());
    }

    #[test]
    fn a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), r#"{"format":7,"oldest_reader":7}"#).unwrap();
        assert!(matches!(Records::open(dir.path()), Err(StateError::Newer(_))));
    }

    /// Bytes of a record of format 1, which later versions must read.
    #[test]
    fn a_record_of_format_1_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let bytes = b"CRC1\x0a\x02id\x12\x05\x0a\x03\x0a\x01p\x20\x07\x28\x01\x32\x0810.0.0.1";
        fs::write(dir.path().join("sandboxes/id"), bytes).unwrap();
        let record = records.sandboxes().remove(0);
        assert_eq!((record.id.as_str(), record.created_at, record.ready), ("id", 7, true));
        assert_eq!(record.ip, "10.0.0.1");
        assert_eq!(record.config.unwrap().metadata.unwrap().name, "p");
    }
}
