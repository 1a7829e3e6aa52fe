//! The content store: modules by digest, names that lead to them.
//!
//! State: built-in modules (static bytes, never on disk), and loaded ones, on disk or, for
//! a store without a directory, in memory. A loaded name hides a built-in one, so that a
//! user may replace a sample.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::disk::{self, DiskError};
use crate::index::{self, Entry, Images, Stamp};
use crate::{CodeCache, Digest, InvalidReference, Reference};

/// Largest module that the store takes, in bytes: compiling takes tens of times as much
/// memory. A larger one is refused.
pub const MODULE_BYTES_MAX: usize = 128 << 20;

/// Modules under their names. Clones share one store.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    builtins: RwLock<HashMap<Reference, Builtin>>,
    loaded: Mutex<Loaded>,
    dir: Option<PathBuf>,
    code: CodeCache,
}

#[derive(Debug, Clone, Copy)]
struct Builtin {
    digest: Digest,
    module: &'static [u8],
}

#[derive(Debug, Default)]
struct Loaded {
    images: Images,
    /// Of the index file that `images` came from.
    stamp: Option<Stamp>,
    /// Modules of a store without a directory.
    in_memory: HashMap<Digest, Bytes>,
}

/// One image: a module and every name that leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// SHA-256 of the module.
    pub id: Digest,
    /// Names with tags, sorted.
    pub repo_tags: Vec<String>,
    /// Repositories with this digest, sorted.
    pub repo_digests: Vec<String>,
    /// The module's size in bytes.
    pub size: u64,
    /// Part of the program: cannot be removed and never needs space.
    pub builtin: bool,
}

/// What the store takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in blobs and compiled code.
    pub bytes: u64,
    /// Files.
    pub inodes: u64,
}

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A newer Coracle wrote it.
    #[error(
        "{path} was written by a newer version (format {format}); use that version, or another data directory"
    )]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The number it gives.
        format: u32,
    },
    /// Not something that this program wrote.
    #[error("{path} is damaged; move it away to start with no images")]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
}

/// A module was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its name is no image name.
    #[error(transparent)]
    Name(#[from] InvalidReference),
    /// A name to load under needs a tag; a digest is computed, not chosen.
    #[error("cannot load an image under the digest {0}: give it a name with a tag")]
    ByDigest(Reference),
    /// It is not WebAssembly.
    #[error("{name} is not a WebAssembly module: {problem}")]
    NotWasm {
        /// The name it was to have.
        name: String,
        /// What the parser said.
        problem: String,
    },
    /// It is too large.
    #[error("{name} has {size} bytes, more than the {MODULE_BYTES_MAX} that a module may have")]
    TooLarge {
        /// The name it was to have.
        name: String,
        /// Its size in bytes.
        size: usize,
    },
    /// It could not be kept.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A module's bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No image has it.
    #[error("no module {0} in the store")]
    Absent(Digest),
    /// Its file's content is not what its name says.
    #[error("module {0} is damaged on disk: remove the image and load it again")]
    Damaged(Digest),
    /// It could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// An image was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It is part of the program.
    #[error("{0} is built in and cannot be removed")]
    Builtin(String),
    /// The store cannot be changed.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<DiskError> for LoadError {
    fn from(error: DiskError) -> Self {
        Self::Open(error.into())
    }
}

impl From<DiskError> for RemoveError {
    fn from(error: DiskError) -> Self {
        Self::Open(error.into())
    }
}

impl Store {
    /// Opens, or begins, the store in `dir`; without one, all is in memory and gone with
    /// the process.
    ///
    /// # Errors
    /// When the directory cannot be used or was written by a newer version.
    pub fn open(dir: Option<&Path>) -> Result<Self, OpenError> {
        if let Some(dir) = dir {
            disk::create_dir(&dir.join("blobs/sha256"))?;
            index::check_version(dir)?;
        }
        let inner = Inner {
            builtins: RwLock::default(),
            loaded: Mutex::default(),
            dir: dir.map(Path::to_path_buf),
            code: CodeCache::open(dir.map(|dir| dir.join("code")).as_deref())?,
        };
        inner.refresh(&mut inner.loaded.lock())?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The compiled code that belongs to this store's modules.
    pub fn code(&self) -> &CodeCache {
        &self.inner.code
    }

    /// Registers a module that is part of the program.
    ///
    /// # Errors
    /// When `reference` is no image name.
    pub fn add_builtin(&self, reference: &str, module: &'static [u8]) -> Result<(), InvalidReference> {
        let builtin = Builtin { digest: Digest::of(module), module };
        self.inner.builtins.write().insert(reference.parse()?, builtin);
        Ok(())
    }

    /// Keeps a module under a name, which may have led elsewhere before. On disk when it
    /// returns.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing has changed then.
    pub fn load(&self, module: &[u8], reference: &str) -> Result<ImageInfo, LoadError> {
        let name: Reference = reference.parse()?;
        if name.digest().is_some() {
            return Err(LoadError::ByDigest(name));
        }
        check_module(module, reference)?;
        let entry = Entry { digest: Digest::of(module), size: module.len() as u64 };
        let mut loaded = self.inner.loaded.lock();
        let _lock = self.inner.write_lock()?;
        self.inner.refresh(&mut loaded)?;
        match self.inner.blob_path(&entry.digest) {
            Some(path) => disk::replace(&path, &[module])?,
            None => {
                let bytes = Bytes::copy_from_slice(module);
                loaded.in_memory.insert(entry.digest, bytes);
            }
        }
        let replaced = loaded.images.insert(name, entry);
        self.inner.save(&mut loaded)?;
        if let Some(old) = replaced {
            self.inner.forget_if_unnamed(&mut loaded, old.digest)?;
        }
        drop(loaded);
        self.by_digest(entry.digest)
            .ok_or_else(|| OpenError::Corrupt { path: PathBuf::from("index.json") }.into())
    }

    /// The image that a name or an id (`sha256:…`) leads to, if it is here.
    pub fn resolve(&self, reference: &str) -> Option<ImageInfo> {
        if let Ok(digest) = reference.parse::<Digest>() {
            return self.by_digest(digest);
        }
        let name: Reference = reference.parse().ok()?;
        // A digest decides; a tag beside it is only a comment.
        if let Some(digest) = name.digest() {
            return self.by_digest(digest);
        }
        let loaded = self.loaded_images();
        let digest = loaded.get(&name).map(|entry| entry.digest);
        let digest = digest.or_else(|| Some(self.inner.builtins.read().get(&name)?.digest))?;
        self.by_digest(digest)
    }

    /// Every image, by id.
    pub fn list(&self) -> Vec<ImageInfo> {
        let mut images: HashMap<Digest, ImageInfo> = HashMap::new();
        let loaded = self.loaded_images();
        let builtins = self.inner.builtins.read();
        for (name, entry) in &loaded {
            image(&mut images, entry.digest, entry.size).named(name);
        }
        for (name, builtin) in builtins.iter() {
            let image = image(&mut images, builtin.digest, builtin.module.len() as u64);
            image.builtin = true;
            if !loaded.contains_key(name) {
                image.named(name);
            }
        }
        let mut list: Vec<ImageInfo> = images.into_values().collect();
        for image in &mut list {
            image.repo_tags.sort();
            image.repo_digests.sort();
            image.repo_digests.dedup();
        }
        list.sort_by_key(|image| image.id);
        list
    }

    /// The module's bytes. Those from disk are checked against their digest.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn module(&self, id: &Digest) -> Result<Bytes, ReadError> {
        let builtin = self.inner.builtins.read();
        if let Some(builtin) = builtin.values().find(|builtin| builtin.digest == *id) {
            return Ok(Bytes::from_static(builtin.module));
        }
        drop(builtin);
        let Some(path) = self.inner.blob_path(id) else {
            let loaded = self.inner.loaded.lock();
            return loaded.in_memory.get(id).cloned().ok_or(ReadError::Absent(*id));
        };
        let bytes = disk::read(&path)?.ok_or(ReadError::Absent(*id))?;
        if Digest::of(&bytes) != *id {
            return Err(ReadError::Damaged(*id));
        }
        Ok(bytes.into())
    }

    /// Removes an image, given any of its names or its id, with all its names and its
    /// compiled code. False when there was none.
    ///
    /// # Errors
    /// When it is built in, or the store cannot be written.
    pub fn remove(&self, reference: &str) -> Result<bool, RemoveError> {
        let Some(image) = self.resolve(reference) else {
            return Ok(false);
        };
        if image.builtin {
            return Err(RemoveError::Builtin(reference.to_owned()));
        }
        let mut loaded = self.inner.loaded.lock();
        let _lock = self.inner.write_lock()?;
        self.inner.refresh(&mut loaded)?;
        loaded.images.retain(|_, entry| entry.digest != image.id);
        self.inner.save(&mut loaded)?;
        self.inner.forget_if_unnamed(&mut loaded, image.id)?;
        Ok(true)
    }

    /// Takes one name away from a loaded image; the image goes with its last name. False when
    /// no loaded image has that name.
    ///
    /// # Errors
    /// When the name is built in, or the store cannot be written.
    pub fn untag(&self, reference: &str) -> Result<bool, RemoveError> {
        let Ok(name) = reference.parse::<Reference>() else {
            return Ok(false);
        };
        let mut loaded = self.inner.loaded.lock();
        let _lock = self.inner.write_lock()?;
        self.inner.refresh(&mut loaded)?;
        let Some(entry) = loaded.images.remove(&name) else {
            let builtin = self.inner.builtins.read().contains_key(&name);
            return if builtin { Err(RemoveError::Builtin(reference.to_owned())) } else { Ok(false) };
        };
        self.inner.save(&mut loaded)?;
        self.inner.forget_if_unnamed(&mut loaded, entry.digest)?;
        Ok(true)
    }

    /// Where the store is, if on disk.
    pub fn dir(&self) -> Option<&Path> {
        self.inner.dir.as_deref()
    }

    /// What blobs and compiled code take on disk.
    pub fn usage(&self) -> Usage {
        let Some(dir) = &self.inner.dir else {
            return Usage::default();
        };
        let mut usage = Usage::default();
        for sub in ["blobs/sha256", "code"] {
            for entry in fs::read_dir(dir.join(sub)).into_iter().flatten().flatten() {
                if let Ok(meta) = entry.metadata() {
                    usage.bytes += meta.blocks() * 512;
                    usage.inodes += 1;
                }
            }
        }
        usage
    }

    fn by_digest(&self, digest: Digest) -> Option<ImageInfo> {
        self.list().into_iter().find(|image| image.id == digest)
    }

    /// The names as they are on disk now. When the file cannot be read, those last known.
    fn loaded_images(&self) -> Images {
        let mut loaded = self.inner.loaded.lock();
        if let Err(error) = self.inner.refresh(&mut loaded) {
            tracing::warn!(%error, "the image index cannot be read; using the last known one");
        }
        loaded.images.clone()
    }
}

impl Inner {
    fn refresh(&self, loaded: &mut Loaded) -> Result<(), OpenError> {
        let Some(path) = self.index_path() else {
            return Ok(());
        };
        let stamp = index::stamp(&path)?;
        if stamp != loaded.stamp {
            loaded.images = index::read(&path)?;
            loaded.stamp = stamp;
        }
        Ok(())
    }

    fn save(&self, loaded: &mut Loaded) -> Result<(), DiskError> {
        if let Some(path) = self.index_path() {
            index::write(&path, &loaded.images)?;
            loaded.stamp = index::stamp(&path)?;
        }
        Ok(())
    }

    /// Drops a module's bytes and code once no name leads to it.
    fn forget_if_unnamed(&self, loaded: &mut Loaded, digest: Digest) -> Result<(), DiskError> {
        if loaded.images.values().any(|entry| entry.digest == digest) {
            return Ok(());
        }
        loaded.in_memory.remove(&digest);
        self.code.remove(&digest);
        self.blob_path(&digest).map_or(Ok(()), |path| disk::remove(&path))
    }

    fn write_lock(&self) -> Result<Option<fs::File>, DiskError> {
        self.dir.as_ref().map(|dir| disk::lock(&dir.join("lock"))).transpose()
    }

    fn index_path(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join("index.json"))
    }

    fn blob_path(&self, digest: &Digest) -> Option<PathBuf> {
        let dir = self.dir.as_ref()?;
        Some(dir.join("blobs/sha256").join(digest.to_hex()))
    }
}

impl ImageInfo {
    fn named(&mut self, name: &Reference) {
        self.repo_tags.push(name.to_string());
        self.repo_digests.push(name.with_digest(self.id).to_string());
    }
}

fn image(images: &mut HashMap<Digest, ImageInfo>, id: Digest, size: u64) -> &mut ImageInfo {
    images.entry(id).or_insert_with(|| ImageInfo {
        id,
        repo_tags: Vec::new(),
        repo_digests: Vec::new(),
        size,
        builtin: false,
    })
}

/// Parses and validates the whole module, so that what does not run is refused here and
/// not on a node.
fn check_module(module: &[u8], name: &str) -> Result<(), LoadError> {
    if module.len() > MODULE_BYTES_MAX {
        return Err(LoadError::TooLarge { name: name.to_owned(), size: module.len() });
    }
    let not_wasm = |problem| LoadError::NotWasm { name: name.to_owned(), problem };
    if !module.starts_with(b"\0asm") {
        return Err(not_wasm("it does not begin with \\0asm".to_owned()));
    }
    wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
        .validate_all(module)
        .map(|_| ())
        .map_err(|error| not_wasm(error.to_string()))
}

#[cfg(test)]
mod tests;
