//! House rules that no lint knows: module docs, and the size of files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Longest source file, in lines, tests aside (STYLE: a sitting).
const FILE_LINES_MAX: usize = 800;

/// Checks every Rust file of the workspace.
///
/// # Errors
/// Lists every file that breaks a rule.
pub fn check(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    for folder in ["crates", "tests"] {
        collect(&root.join(folder), &mut files)?;
    }
    let mut complaints = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(root).unwrap_or(file).display().to_string();
        complaints.extend(judge(&name, &text));
    }
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    println!("tidy: {} files", files.len());
    Ok(())
}

fn judge(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!("{name}: does not open with a //! contract"));
    }
    let lines = text.lines().take_while(|l| l.trim() != "#[cfg(test)]").count();
    let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
    if lines > FILE_LINES_MAX && !is_test {
        complaints.push(format!("{name}: {lines} lines, at most {FILE_LINES_MAX} make a file"));
    }
    complaints
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_module_without_contract_is_named() {
        assert_eq!(judge("a.rs", "fn f() {}\n").len(), 1);
        assert!(judge("a.rs", "//! Does a thing.\nfn f() {}\n").is_empty());
    }

    #[test]
    fn long_files_are_named_but_their_tests_do_not_count() {
        let long = format!("//! x\n{}", "// line\n".repeat(800));
        assert_eq!(judge("a.rs", &long).len(), 1);
        let tested = format!("//! x\n#[cfg(test)]\n{}", "// line\n".repeat(900));
        assert!(judge("a.rs", &tested).is_empty());
    }
}
