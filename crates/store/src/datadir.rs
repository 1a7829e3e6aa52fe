//! The data directory: made for us alone, locked while we use it, and marked with the
//! format of what is in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Format of the directory that this version writes.
pub(crate) const FORMAT: u32 = 1;
/// Oldest format whose readers can read what this version writes.
const OLDEST_READER: u32 = 1;

const LOCK: &str = "LOCK";
const VERSION: &str = "VERSION";

/// Most bytes of a `LOCK` or `VERSION` file that are read.
const FILE_BYTES_MAX: u64 = 4_096;

/// Why a store cannot be opened. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written.
    #[error("the store's directory {} is not writable: {source}", path.display())]
    NotWritable {
        /// The directory or the file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else has it open.
    #[error("the store in {} is in use by {holder}; stop it, or choose another data directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who locked it, as far as it says.
        holder: String,
    },
    /// It was written by a version that this one does not know.
    #[error(
        "the store in {} has format {found} (readable from format {oldest_reader} on), this version knows up to {FORMAT}; \
         use a newer version",
        path.display()
    )]
    TooNew {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Oldest format whose readers can read it.
        oldest_reader: u32,
    },
    /// It holds something that no version writes.
    #[error("the store in {} is damaged: {why}", path.display())]
    Damaged {
        /// The directory or the file in it.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Consensus did not start.
    #[error("the store does not start: {0}")]
    Raft(String),
}

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there (mode 0700), locks it, and checks or writes
    /// its `VERSION`.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| not_writable(path, e))?;
        let lock = lock(path)?;
        match read(&path.join(VERSION))? {
            None => write_version(path)?,
            Some(text) => check_version(path, &text)?,
        }
        Ok(Self { _lock: lock })
    }
}

fn not_writable(path: &Path, source: io::Error) -> OpenError {
    OpenError::NotWritable { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Option<String>, OpenError> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            Err(OpenError::Damaged { path: path.to_owned(), why: "not text".into() })
        }
        Err(e) => Err(not_writable(path, e)),
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(|e| not_writable(&path, e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = read(&path)?.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
            let holder = holder.unwrap_or_else(|| "another process".into());
            return Err(OpenError::Locked { path: dir.to_owned(), holder });
        }
        Err(e) => return Err(not_writable(&path, e.into())),
    }
    // For whoever finds it locked; the lock itself is the kernel's.
    let write = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
    write.map_err(|e| not_writable(&path, e))?;
    Ok(file)
}

fn write_version(dir: &Path) -> Result<(), OpenError> {
    let (path, temporary) = (dir.join(VERSION), dir.join("VERSION.new"));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        write!(file, "format {FORMAT}\noldest-reader {OLDEST_READER}\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        // The directory holds the name, and those of the files made before.
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| not_writable(&path, e))
}

fn check_version(dir: &Path, text: &str) -> Result<(), OpenError> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
    let (Some(found), Some(oldest_reader)) = (field("format "), field("oldest-reader ")) else {
        let why = "it does not say \"format N\" and \"oldest-reader N\"".into();
        return Err(OpenError::Damaged { path: dir.join(VERSION), why });
    };
    if oldest_reader > FORMAT {
        return Err(OpenError::TooNew { path: dir.to_owned(), found, oldest_reader });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn is_private_locked_and_versioned() {
        let scratch = scratch();
        let dir = scratch.path().join("a/b");
        let held = DataDir::open(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(dir.join(VERSION)).unwrap(), "format 1\noldest-reader 1\n");
        let error = DataDir::open(&dir).unwrap_err();
        assert!(
            matches!(&error, OpenError::Locked { holder, .. } if *holder == format!("process {}", std::process::id()))
        );
        assert!(error.to_string().contains("in use by process"), "{error}");
        drop(held);
        DataDir::open(&dir).unwrap();
    }

    #[test]
    fn newer_versions_are_refused_unless_they_say_otherwise() {
        let scratch = scratch();
        let check = |text: &str| {
            fs::write(scratch.path().join(VERSION), text).unwrap();
            DataDir::open(scratch.path()).map(drop)
        };
        assert!(matches!(
            check("format 3\noldest-reader 2\n"),
            Err(OpenError::TooNew { found: 3, oldest_reader: 2, .. })
        ));
        assert!(check("format 3\noldest-reader 1\n").is_ok());
        assert!(matches!(check("what\n"), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let scratch = scratch();
        let path = scratch.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DataDir::open(&path.join("store")).unwrap_err();
        assert!(matches!(error, OpenError::NotWritable { .. }));
        assert!(error.to_string().contains("file/store"), "{error}");
    }
}
