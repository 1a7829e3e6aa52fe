//! The data directory of a Coracle process: one owner at a time, one format version.
//!
//! Layout (everything 0700, files 0600):
//!
//! | path | owner |
//! |---|---|
//! | `VERSION` | this module: `format=<n>` and `oldest-reader=<n>`, a line each |
//! | `LOCK` | this module: flock(2) held while a process runs; holds its pid |
//! | `pki/` | `coracle-pki` |
//! | `store/` | `coracle-store` |
//! | `images/` | `coracle-images` |
//! | `<node>/` | a node's runtime, kubelet and container logs; `runtime.sock` |
//! | `kubeconfig` | the administrator's |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Format that this program writes.
pub const FORMAT: u32 = 1;
/// Oldest program format that can read what this program writes.
const OLDEST_READER: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made or written.
    #[error("data directory {} is not usable: {what}: {source}; choose another with --data-dir", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process runs on it.
    #[error("data directory {} is in use by process {pid}; stop it or choose another with --data-dir", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Process id that the lock file names; `?` when it names none.
        pid: String,
    },
    /// A newer Coracle wrote it.
    #[error(
        "data directory {} has format {found}, which needs a program that reads format {oldest} or newer; this one writes format {FORMAT}; use a newer coracle",
        dir.display()
    )]
    TooNew {
        /// The directory.
        dir: PathBuf,
        /// Format found.
        found: u32,
        /// Oldest reader that the writer named.
        oldest: u32,
    },
    /// The version file is damaged.
    #[error("{} does not say which format the directory has: {text:?}", file.display())]
    BadVersion {
        /// The file.
        file: PathBuf,
        /// Its beginning.
        text: String,
    },
}

/// A locked data directory. Dropping it gives the lock back; a temporary one is removed.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
    _temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    /// Opens `path`, makes it where it is not there, and locks it.
    ///
    /// # Errors
    /// See [`Error`]; nothing is changed in a directory that is refused.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |what| move |source| Error::Io { dir: path.to_owned(), what, source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("creating it"))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("LOCK"))
            .map_err(io("opening LOCK"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // Only for the message: an unreadable pid is shown as `?`.
            let _ = lock.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "?".to_owned() } else { pid.trim().to_owned() };
            return Err(Error::Locked { dir: path.to_owned(), pid });
        }
        check_version(path)?;
        lock.set_len(0).map_err(io("writing LOCK"))?;
        lock.rewind().map_err(io("writing LOCK"))?;
        write!(lock, "{}", std::process::id()).map_err(io("writing LOCK"))?;
        let path = path.canonicalize().map_err(io("resolving its path"))?;
        Ok(Self { path, _lock: lock, _temporary: None })
    }

    /// A directory in the system's temporary folder that is removed when dropped.
    ///
    /// # Errors
    /// When none can be made there.
    pub fn temporary() -> Result<Self, Error> {
        let base = std::env::temp_dir();
        let temporary = tempfile::Builder::new()
            .prefix("coracle-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&base)
            .map_err(|source| Error::Io { dir: base, what: "making a temporary directory", source })?;
        let mut opened = Self::open(temporary.path())?;
        opened._temporary = Some(temporary);
        Ok(opened)
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes `text` to `path` (mode 0600) so that a reader sees the old or the new whole.
///
/// # Errors
/// The I/O error of the file system.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Makes `path` and what leads to it, mode 0700; fine if it is there.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn make_private(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { dir: path.to_owned(), what: "creating it", source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}

fn check_version(path: &Path) -> Result<(), Error> {
    let file = path.join("VERSION");
    let io = |what| move |source| Error::Io { dir: path.to_owned(), what, source };
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("format={FORMAT}\noldest-reader={OLDEST_READER}\n");
            return write_private(&file, &text).map_err(io("writing VERSION"));
        }
        Err(e) => return Err(io("reading VERSION")(e)),
    };
    let field = |name: &str| {
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')?.trim().parse::<u32>().ok())
    };
    let (Some(found), Some(oldest)) = (field("format"), field("oldest-reader")) else {
        return Err(Error::BadVersion { file, text: text.chars().take(80).collect() });
    };
    if oldest > FORMAT {
        return Err(Error::TooNew { dir: path.to_owned(), found, oldest });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(&refused, Error::Locked { pid, .. } if *pid == std::process::id().to_string()));
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let text = "format=9\noldest-reader=7\n";
        fs::write(dir.path().join("VERSION"), text).unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(refused, Error::TooNew { found: 9, oldest: 7, .. }), "{refused}");
        assert_eq!(fs::read_to_string(dir.path().join("VERSION")).unwrap(), text);
    }

    #[test]
    fn a_newer_format_that_names_us_as_reader_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "format=2\noldest-reader=1\n").unwrap();
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "hello").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(Error::BadVersion { .. })));
    }

    #[test]
    fn a_temporary_directory_goes_away() {
        let dir = DataDir::temporary().unwrap();
        let path = dir.path().to_owned();
        assert!(path.exists());
        drop(dir);
        assert!(!path.exists());
    }
}
