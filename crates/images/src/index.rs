//! The index file: which name leads to which module. JSON with a format number, read
//! again whenever another process has replaced it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError};
use crate::store::OpenError;
use crate::{Digest, Reference};

/// Number of the format that this version writes.
const FORMAT: u32 = 1;
/// Oldest version that may still read what this one writes.
const OLDEST_READER: u32 = 1;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

pub(crate) type Images = BTreeMap<Reference, Entry>;

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    modified_ns: i128,
    size: u64,
}

#[derive(Serialize, Deserialize)]
struct VersionFile {
    format: u32,
    oldest_reader: u32,
}

#[derive(Serialize, Deserialize)]
struct IndexFile {
    format: u32,
    images: Vec<IndexRow>,
}

#[derive(Serialize, Deserialize)]
struct IndexRow {
    reference: String,
    digest: String,
    size: u64,
}

/// Refuses a directory that a newer version wrote and this one may not read; marks a new
/// one as ours.
pub(crate) fn check_version(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("VERSION");
    let Some(bytes) = disk::read(&path)? else {
        let version = VersionFile { format: FORMAT, oldest_reader: OLDEST_READER };
        let text = serde_json::to_vec(&version).map_err(|_| OpenError::Corrupt { path: path.clone() })?;
        disk::create_once(&path, &text)?;
        return Ok(());
    };
    let version: VersionFile =
        serde_json::from_slice(&bytes).map_err(|_| OpenError::Corrupt { path: path.clone() })?;
    if version.oldest_reader > FORMAT {
        return Err(OpenError::Newer { path, format: version.format });
    }
    Ok(())
}

/// The file's identity now, or none when there is no file.
pub(crate) fn stamp(path: &Path) -> Result<Option<Stamp>, DiskError> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(Stamp {
            inode: meta.ino(),
            modified_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            size: meta.size(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::new("read", path)(error)),
    }
}

/// Every name in the file; none when there is no file.
pub(crate) fn read(path: &Path) -> Result<Images, OpenError> {
    let Some(bytes) = disk::read(path)? else {
        return Ok(Images::new());
    };
    let corrupt = || OpenError::Corrupt { path: path.to_path_buf() };
    let file: IndexFile = serde_json::from_slice(&bytes).map_err(|_| corrupt())?;
    file.images
        .into_iter()
        .map(|row| {
            let reference = row.reference.parse().map_err(|_| corrupt())?;
            let digest = row.digest.parse().map_err(|_| corrupt())?;
            Ok((reference, Entry { digest, size: row.size }))
        })
        .collect()
}

pub(crate) fn write(path: &Path, images: &Images) -> Result<(), DiskError> {
    let file = IndexFile {
        format: FORMAT,
        images: images
            .iter()
            .map(|(reference, entry)| IndexRow {
                reference: reference.to_string(),
                digest: entry.digest.to_string(),
                size: entry.size,
            })
            .collect(),
    };
    let text = serde_json::to_vec(&file).map_err(io::Error::other).map_err(DiskError::new("encode", path))?;
    disk::replace(path, &[&text])
}
