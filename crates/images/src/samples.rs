//! The guest programs of `wasm-samples/`, carried in every binary under
//! `coracle.local/samples/<name>:latest`.

use crate::{InvalidReference, Store};

/// What the samples' names begin with.
pub const REPOSITORY: &str = "coracle.local/samples";

/// A guest program.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The directory in `wasm-samples/`, and the last part of the image's name.
    pub name: &'static str,
    /// The module.
    pub module: &'static [u8],
}

macro_rules! samples {
    ($($name:literal),* $(,)?) => {
        /// Every sample, by name.
        pub const ALL: &[Sample] = &[$(Sample {
            name: $name,
            module: include_bytes!(concat!("../../../wasm-samples/prebuilt/", $name, ".wasm")),
        }),*];
    };
}

samples!["caller", "cli", "crash", "hello", "memhog", "spin", "tcp-echo"];

impl Sample {
    /// The image's full name.
    pub fn reference(&self) -> String {
        format!("{REPOSITORY}/{}:latest", self.name)
    }
}

/// Makes every sample an image of `store`.
///
/// # Errors
/// Never for the names in [`ALL`], which a test parses.
pub fn register(store: &Store) -> Result<(), InvalidReference> {
    ALL.iter().try_for_each(|sample| store.add_builtin(&sample.reference(), sample.module))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Largest module of a sample, in bytes.
    const SAMPLE_BYTES_MAX: usize = 300 << 10;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wasm-samples")
    }

    fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files_below(&path, found),
                false => found.push(path),
            }
        }
    }

    /// As `build.sh` computes it: the digest of a `sha256sum` listing.
    fn sources_of(sample: &str) -> String {
        let root = root();
        let mut files = vec![root.join("Cargo.lock"), root.join("Cargo.toml")];
        files_below(&root.join(sample), &mut files);
        let mut lines: Vec<(String, String)> = files
            .iter()
            .map(|path| {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                (name, Digest::of(&fs::read(path).unwrap()).to_hex())
            })
            .collect();
        lines.sort();
        let listing: String = lines.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
        Digest::of(listing.as_bytes()).to_hex()
    }

    #[test]
    fn every_module_was_built_from_the_sources_beside_it() {
        let record = fs::read_to_string(root().join("prebuilt/SOURCES")).unwrap();
        let recorded: BTreeMap<&str, (&str, &str)> = record
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let mut words = line.split(' ');
                let mut word = || words.next().unwrap();
                (word(), (word(), word()))
            })
            .collect();
        assert_eq!(
            recorded.keys().copied().collect::<Vec<_>>(),
            ALL.iter().map(|sample| sample.name).collect::<Vec<_>>(),
        );
        for sample in ALL {
            let (sources, module) = recorded[sample.name];
            let name = sample.name;
            assert_eq!(sources_of(name), sources, "{name} changed: run wasm-samples/build.sh");
            assert_eq!(Digest::of(sample.module).to_hex(), module, "{name}.wasm");
            assert!(sample.module.len() <= SAMPLE_BYTES_MAX, "{name} is too large");
        }
    }

    #[test]
    fn every_directory_is_a_sample() {
        let mut names: Vec<String> = fs::read_dir(root())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().join("Cargo.toml").exists())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ALL.iter().map(|sample| sample.name).collect::<Vec<_>>());
    }

    #[test]
    fn they_are_images() {
        let store = Store::open(None).unwrap();
        register(&store).unwrap();
        let hello = store.resolve("coracle.local/samples/hello").unwrap();
        assert!(hello.builtin);
        assert_eq!(store.list().len(), ALL.len());
    }
}
