//! Tests of the image store: names, persistence, sharing between processes, damage and formats.

use super::*;

/// The smallest module, and one that differs from it.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0";
const CUSTOM: &[u8] = b"\0asm\x01\0\0\0\0\x02\x01x";

#[test]
fn a_loaded_image_is_found_by_every_name_and_by_id() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [Some(dir.path()), None] {
        let store = Store::open(dir).unwrap();
        let image = store.load(EMPTY, "app:v1").unwrap();
        store.load(EMPTY, "other.io/app").unwrap();
        assert_eq!(image.id, Digest::of(EMPTY));
        assert_eq!(image.size, 8);
        let both = store.resolve("app:v1").unwrap();
        assert_eq!(both.repo_tags, ["docker.io/library/app:v1", "other.io/app:latest"]);
        for name in [
            "docker.io/library/app:v1",
            "other.io/app:latest",
            &image.id.to_string(),
            &format!("app@{}", image.id),
        ] {
            assert_eq!(store.resolve(name).as_ref(), Some(&both), "{name}");
        }
        assert_eq!(store.resolve("app:v2"), None);
        assert_eq!(store.module(&image.id).unwrap(), EMPTY);
    }
}

#[test]
fn a_name_moves_and_the_old_module_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Some(dir.path())).unwrap();
    let old = store.load(EMPTY, "app").unwrap();
    let new = store.load(CUSTOM, "app").unwrap();
    assert_eq!(store.list(), [new]);
    assert!(matches!(store.module(&old.id), Err(ReadError::Absent(_))));
    assert_eq!(store.usage().inodes, 2, "one blob and the code cache's key");
}

#[test]
fn it_is_all_there_after_a_restart_and_in_other_processes() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(Some(dir.path())).unwrap();
    let second = Store::open(Some(dir.path())).unwrap();
    let image = first.load(EMPTY, "app").unwrap();
    assert_eq!(second.resolve("app"), Some(image));
    assert!(second.remove("app").unwrap());
    assert_eq!(first.list(), []);
    assert!(!first.remove("app").unwrap());
    first.load(CUSTOM, "app").unwrap();
    drop((first, second));
    assert_eq!(Store::open(Some(dir.path())).unwrap().list().len(), 1);
}

#[test]
fn built_in_images_cannot_be_removed_but_may_be_hidden() {
    let store = Store::open(None).unwrap();
    store.add_builtin("coracle.local/x", EMPTY).unwrap();
    let builtin = store.resolve("coracle.local/x:latest").unwrap();
    assert!(builtin.builtin);
    assert!(matches!(store.remove("coracle.local/x"), Err(RemoveError::Builtin(_))));
    let mine = store.load(CUSTOM, "coracle.local/x").unwrap();
    assert_eq!(store.resolve("coracle.local/x").unwrap().id, mine.id);
    assert!(store.remove("coracle.local/x").unwrap());
    assert_eq!(store.resolve("coracle.local/x").unwrap(), builtin);
}

#[test]
fn what_is_not_taken() {
    let store = Store::open(None).unwrap();
    assert!(matches!(store.load(b"#!/bin/sh", "a"), Err(LoadError::NotWasm { .. })));
    assert!(matches!(store.load(&EMPTY[..6], "a"), Err(LoadError::NotWasm { .. })));
    assert!(matches!(store.load(EMPTY, "A"), Err(LoadError::Name(_))));
    let digest = format!("a@{}", Digest::of(EMPTY));
    assert!(matches!(store.load(EMPTY, &digest), Err(LoadError::ByDigest(_))));
    assert_eq!(store.list(), []);
}

#[test]
fn a_name_is_taken_away_and_the_image_goes_with_its_last() {
    let store = Store::open(None).unwrap();
    store.add_builtin("sample:v1", EMPTY).unwrap();
    let image = store.load(CUSTOM, "a:v1").unwrap();
    store.load(CUSTOM, "b:v1").unwrap();
    store.load(EMPTY, "mine:v1").unwrap();
    assert!(store.untag("a:v1").unwrap());
    assert!(!store.untag("a:v1").unwrap());
    assert_eq!(store.module(&image.id).unwrap(), CUSTOM);
    assert!(store.untag("b:v1").unwrap());
    assert!(store.module(&image.id).is_err());
    assert!(store.untag("mine:v1").unwrap(), "a loaded name of a built-in module");
    assert!(matches!(store.untag("sample:v1"), Err(RemoveError::Builtin(_))));
}

#[test]
fn damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Some(dir.path())).unwrap();
    let image = store.load(EMPTY, "app").unwrap();
    let blob = dir.path().join("blobs/sha256").join(image.id.to_hex());
    fs::write(blob, CUSTOM).unwrap();
    assert!(matches!(store.module(&image.id), Err(ReadError::Damaged(_))));
    fs::write(dir.path().join("index.json"), "{").unwrap();
    assert!(matches!(Store::open(Some(dir.path())), Err(OpenError::Corrupt { .. })));
    fs::write(dir.path().join("VERSION"), r#"{"format":9,"oldest_reader":9}"#).unwrap();
    assert!(matches!(Store::open(Some(dir.path())), Err(OpenError::Newer { format: 9, .. })));
}

#[test]
fn a_store_of_format_1_opens() {
    let dir = tempfile::tempdir().unwrap();
    let digest = Digest::of(EMPTY);
    fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
    fs::write(dir.path().join("VERSION"), r#"{"format":1,"oldest_reader":1}"#).unwrap();
    fs::write(dir.path().join("blobs/sha256").join(digest.to_hex()), EMPTY).unwrap();
    let index =
        format!(r#"{{"format":1,"images":[{{"reference":"r.io/app:v1","digest":"{digest}","size":8}}]}}"#);
    fs::write(dir.path().join("index.json"), index).unwrap();
    let store = Store::open(Some(dir.path())).unwrap();
    assert_eq!(store.resolve("r.io/app:v1").unwrap().id, digest);
    assert_eq!(store.module(&digest).unwrap(), EMPTY);
}
