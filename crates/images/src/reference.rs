//! Image names: `[domain/]path[:tag][@digest]`, completed as container tools complete
//! them (the grammar is that of the OCI distribution project's reference package).

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// Longest name (domain and path), in bytes; longer ones are refused, as by registries.
const NAME_BYTES_MAX: usize = 255;
/// Longest tag, in bytes.
const TAG_BYTES_MAX: usize = 128;
/// What a name without a domain belongs to.
const DEFAULT_DOMAIN: &str = "docker.io";
/// What a one-word name of the default domain lives under.
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// An image name with nothing left out: domain, path, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that is no image name. Kubernetes reports it as `InvalidImageName`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid image name {text:?}: {problem}")]
pub struct InvalidReference {
    /// The text, cut to a length that fits a message.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Reference {
    /// Registry that the image belongs to, with its port if it has one.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Path within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag. `latest` when the text had neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when the text had one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Domain and path.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// This name with `digest` in place of what it had after the repository.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid =
            |problem| InvalidReference { text: text.chars().take(2 * NAME_BYTES_MAX).collect(), problem };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse();
                let digest = digest.map_err(|_| invalid("its digest is not sha256 and 64 hex digits"));
                (rest, Some(digest?))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("its tag has characters that tags may not have"));
        }
        let (domain, path) = split_domain(name);
        if !is_domain(&domain) {
            return Err(invalid("its registry is not a host name"));
        }
        if !path.split('/').all(is_path_component) {
            return Err(invalid(
                "its path may hold lower-case letters, digits, and single . _ - between them",
            ));
        }
        if domain.len() + 1 + path.len() > NAME_BYTES_MAX {
            return Err(invalid("it is longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { domain, path, tag, digest })
    }
}

/// The first component is a domain when it looks like one: a dot, a port, or localhost.
fn split_domain(name: &str) -> (String, String) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || has_upper(first) => {
            (first.to_owned(), rest.to_owned())
        }
        Some(_) => (DEFAULT_DOMAIN.to_owned(), name.to_owned()),
        None => (DEFAULT_DOMAIN.to_owned(), format!("{DEFAULT_NAMESPACE}/{name}")),
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (domain, None),
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok())
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_BYTES_MAX).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Lower-case letters and digits, separated by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
        && bytes
            .split(|b| plain(*b))
            .all(|between| matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|b| *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let digest = Digest::of(b"x");
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("team/app", "docker.io/team/app:latest".to_owned()),
            ("team/app:v1", "docker.io/team/app:v1".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("host:5000/a/b", "host:5000/a/b:latest".to_owned()),
            ("host:5000/a:2", "host:5000/a:2".to_owned()),
            ("coracle.local/samples/hello", "coracle.local/samples/hello:latest".to_owned()),
            (&format!("app@{digest}"), format!("docker.io/library/app@{digest}")),
            (&format!("r.io/app:v1@{digest}"), format!("r.io/app:v1@{digest}")),
            ("a--b/c__d.e", "docker.io/a--b/c__d.e:latest".to_owned()),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "{text} again");
        }
    }

    #[test]
    fn names_that_are_none() {
        let long = "a".repeat(300);
        for text in [
            "",
            ":",
            "/",
            "a//b",
            "App",
            "a/B",
            "a:",
            "a:-x",
            "a@sha256:00",
            "a@",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "http://a/b",
            "a b",
            "Host.io/",
            "a.io:x/b",
            "é",
            &long,
            &format!("a:{long}"),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn with_digest_drops_the_tag() {
        let digest = Digest::of(b"x");
        let reference: Reference = "r.io/app:v1".parse().unwrap();
        assert_eq!(reference.with_digest(digest).to_string(), format!("r.io/app@{digest}"));
    }
}
