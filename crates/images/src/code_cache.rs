//! Compiled code, so that a module is compiled once per engine and not once per start.
//!
//! Native code is run as it is, so a file is believed only when its authentication code
//! was made with the key beside it, which only this user can read. Anything else (torn,
//! foreign, of another engine) counts as absent and is replaced.
//!
//! A file `<module hex>-<engine hex>`:
//!
//! | offset | length | content |
//! |---|---|---|
//! | 0 | 8 | `CRCLAOT1` |
//! | 8 | 32 | HMAC-SHA256 with the key over: module digest, engine hash, code |
//! | 40 | rest | the code |

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ring::hmac;

use crate::Digest;
use crate::disk::{self, DiskError};

const MAGIC: &[u8; 8] = b"CRCLAOT1";
const TAG_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + TAG_BYTES;
const KEY_BYTES: usize = 32;

/// Most bytes of compiled code kept; beyond it the files unused for longest go.
pub const CODE_BYTES_MAX: u64 = 2 << 30;

/// Compiled code by module and engine. Clones share one cache. Without a directory it
/// keeps nothing.
#[derive(Clone, Debug)]
pub struct CodeCache {
    disk: Option<Arc<OnDisk>>,
}

#[derive(Debug)]
struct OnDisk {
    dir: PathBuf,
    key: hmac::Key,
    bytes_max: u64,
}

impl CodeCache {
    /// Opens, or begins, the cache in `dir`.
    ///
    /// # Errors
    /// When the directory or the key cannot be read or written.
    pub fn open(dir: Option<&Path>) -> Result<Self, DiskError> {
        let disk = match dir {
            Some(dir) => Some(Arc::new(OnDisk::open(dir, CODE_BYTES_MAX)?)),
            None => None,
        };
        Ok(Self { disk })
    }

    /// The code compiled from `module` for `engine`, if it is there and authentic.
    pub fn get(&self, module: &Digest, engine: &Digest) -> Option<Vec<u8>> {
        let disk = self.disk.as_ref()?;
        let path = disk.path(module, engine);
        let mut file = disk::read(&path).ok()??;
        if !disk.is_authentic(&file, module, engine) {
            tracing::warn!(path = %path.display(), "compiled code is not authentic; compiling again");
            return None;
        }
        // Its age decides what goes first when the cache is full.
        let _ = fs::File::open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        file.drain(..HEADER_BYTES);
        Some(file)
    }

    /// Keeps code.
    ///
    /// # Errors
    /// When it cannot be written; the cache is as before then.
    pub fn put(&self, module: &Digest, engine: &Digest, code: &[u8]) -> Result<(), DiskError> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let tag = disk.tag(module, engine, code);
        disk::replace(&disk.path(module, engine), &[MAGIC, tag.as_ref(), code])?;
        disk.shrink();
        Ok(())
    }

    /// Drops the code of a module for every engine.
    pub fn remove(&self, module: &Digest) {
        let Some(disk) = &self.disk else {
            return;
        };
        let prefix = format!("{}-", module.to_hex());
        for (path, _) in disk.files() {
            let name = path.file_name().unwrap_or_default();
            if name.to_string_lossy().starts_with(&prefix) {
                let _ = disk::remove(&path);
            }
        }
    }
}

impl OnDisk {
    fn open(dir: &Path, bytes_max: u64) -> Result<Self, DiskError> {
        disk::create_dir(dir)?;
        let path = dir.join("key");
        let mut key = disk::read(&path)?;
        if key.as_ref().is_none_or(|key| key.len() != KEY_BYTES) {
            // A damaged key makes every file unauthentic, which is what it should do.
            if key.is_some() {
                disk::remove(&path)?;
            }
            disk::create_once(&path, &rand::random::<[u8; KEY_BYTES]>())?;
            key = disk::read(&path)?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap_or_default()),
            bytes_max,
        })
    }

    fn path(&self, module: &Digest, engine: &Digest) -> PathBuf {
        self.dir.join(format!("{}-{}", module.to_hex(), engine.to_hex()))
    }

    fn tag(&self, module: &Digest, engine: &Digest, code: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(module.as_bytes());
        context.update(engine.as_bytes());
        context.update(code);
        context.sign()
    }

    fn is_authentic(&self, file: &[u8], module: &Digest, engine: &Digest) -> bool {
        if file.len() < HEADER_BYTES || !file.starts_with(MAGIC) {
            return false;
        }
        let (header, code) = file.split_at(HEADER_BYTES);
        let mut signed = Vec::with_capacity(64 + code.len());
        signed.extend_from_slice(module.as_bytes());
        signed.extend_from_slice(engine.as_bytes());
        signed.extend_from_slice(code);
        // Compares in constant time.
        hmac::verify(&self.key, &signed, &header[MAGIC.len()..]).is_ok()
    }

    /// Every file of code with its metadata.
    fn files(&self) -> Vec<(PathBuf, fs::Metadata)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name() != "key")
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
            .collect()
    }

    fn shrink(&self) {
        let mut files = self.files();
        let mut total: u64 = files.iter().map(|(_, meta)| meta.len()).sum();
        files.sort_by_key(|(_, meta)| meta.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        for (path, meta) in files {
            if total <= self.bytes_max {
                return;
            }
            total -= meta.len();
            let _ = disk::remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_what_this_key_signed_is_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let (module, engine) = (Digest::of(b"m"), Digest::of(b"e"));
        let cache = CodeCache::open(Some(dir.path())).unwrap();
        assert_eq!(cache.get(&module, &engine), None);
        cache.put(&module, &engine, b"code").unwrap();
        let reopened = CodeCache::open(Some(dir.path())).unwrap();
        assert_eq!(reopened.get(&module, &engine).as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.get(&engine, &module), None);

        let path = cache.disk.as_ref().unwrap().path(&module, &engine);
        let good = fs::read(&path).unwrap();
        for at in [0, 8, 40, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert_eq!(cache.get(&module, &engine), None, "byte {at}");
        }
        fs::write(&path, &good[..20]).unwrap();
        assert_eq!(cache.get(&module, &engine), None);

        // The file of one engine under the name of another.
        fs::rename(&path, cache.disk.as_ref().unwrap().path(&module, &module)).unwrap();
        assert_eq!(cache.get(&module, &module), None);
    }

    #[test]
    fn the_key_is_private_and_a_new_one_disowns_old_code() {
        let dir = tempfile::tempdir().unwrap();
        let (module, engine) = (Digest::of(b"m"), Digest::of(b"e"));
        let cache = CodeCache::open(Some(dir.path())).unwrap();
        cache.put(&module, &engine, b"code").unwrap();
        let key = dir.path().join("key");
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&key, b"short").unwrap();
        let cache = CodeCache::open(Some(dir.path())).unwrap();
        assert_eq!(cache.get(&module, &engine), None);
    }

    #[test]
    fn the_oldest_code_goes_when_there_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Some(Arc::new(OnDisk::open(dir.path(), 200).unwrap()));
        let cache = CodeCache { disk };
        let engine = Digest::of(b"e");
        let modules = [b"a", b"b", b"c"].map(|m| Digest::of(m));
        for (age, module) in modules.iter().enumerate() {
            cache.put(module, &engine, &[0; 50]).unwrap();
            let path = cache.disk.as_ref().unwrap().path(module, &engine);
            let when = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 + age as u64);
            if path.exists() {
                fs::File::open(path).unwrap().set_modified(when).unwrap();
            }
        }
        let kept: Vec<bool> = modules.iter().map(|m| cache.get(m, &engine).is_some()).collect();
        assert_eq!(kept, [false, true, true]);
        cache.remove(&modules[1]);
        assert_eq!(cache.get(&modules[1], &engine), None);
    }
}
