//! Sets of files that change all at once.
//!
//! The files live in a directory with a name of its own, `..data` is a link to it, and every
//! visible name is a link through `..data`. Replacing `..data` with one rename switches them
//! all; a reader sees the old set or the new one. This is the layout of kubelets, which
//! programs that watch `..data` rely on.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use coracle_plan::kubelet::volume::{File, Payload};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `dir` hold exactly `payload`; whether anything had to change.
pub(super) fn write(dir: &Path, payload: &Payload) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let current = fs::read_link(dir.join(DATA)).ok().map(|target| dir.join(target));
    let changed = !current.as_deref().is_some_and(|current| holds(current, payload));
    if changed {
        let fresh = new_directory(dir)?;
        for (path, file) in payload {
            write_file(&fresh, path, file)?;
        }
        let name = fresh.file_name().map(PathBuf::from).unwrap_or_default();
        let link = dir.join(DATA_NEW);
        remove_if_there(&link)?;
        symlink(name, &link)?;
        fs::rename(&link, dir.join(DATA))?;
    }
    show(dir, payload)?;
    if let (true, Some(old)) = (changed, current) {
        fs::remove_dir_all(old)?;
    }
    Ok(changed)
}

/// Links every top-level name through `..data` and removes names that are no more.
fn show(dir: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> =
        payload.keys().filter_map(|path| path.split('/').find(|p| !p.is_empty())).collect();
    for name in &names {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(name.as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn new_directory(dir: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = dir.join(format!("..{}_{:09}", now.as_secs(), now.subsec_nanos()));
    fs::create_dir(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn write_file(dir: &Path, path: &str, file: &File) -> io::Result<()> {
    let path = dir.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    out.write_all(&file.data)?;
    out.set_permissions(fs::Permissions::from_mode(file.mode))
}

/// Whether `dir` holds exactly these files.
fn holds(dir: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&String, &File)| {
        let path = dir.join(path);
        let mode = fs::metadata(&path).map(|m| m.permissions().mode() & 0o777).ok();
        mode == Some(file.mode) && fs::read(&path).is_ok_and(|data| data == file.data)
    };
    count_files(dir).is_ok_and(|count| count == payload.len()) && payload.iter().all(same)
}

fn count_files(dir: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        files
            .iter()
            .map(|(path, text, mode)| {
                ((*path).to_owned(), File { data: text.as_bytes().to_vec(), mode: *mode })
            })
            .collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|n| !n.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_appear_change_and_go() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("v");
        assert!(write(&dir, &payload(&[("a", "1", 0o644), ("d/b", "2", 0o600)])).unwrap());
        assert_eq!(names(&dir), ["a", "d"]);
        assert_eq!(fs::read_to_string(dir.join("d/b")).unwrap(), "2");
        let mode = fs::metadata(dir.join("d/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let before = fs::read_link(dir.join(DATA)).unwrap();
        assert!(!write(&dir, &payload(&[("a", "1", 0o644), ("d/b", "2", 0o600)])).unwrap());
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), before);

        assert!(write(&dir, &payload(&[("a", "3", 0o644)])).unwrap());
        assert_eq!(names(&dir), ["a"]);
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join(before).exists());
    }
}
