//! Image names and pull policies.

use k8s_openapi::api::core::v1::Container;

/// The longest image name that is looked at, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// By no means.
    Never,
}

/// What to do for one start of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStep {
    /// The node's copy will do.
    Use,
    /// Fetch it.
    Pull,
    /// It is absent and may not be fetched.
    Refuse,
}

impl PullPolicy {
    /// The policy of `container`: what it says, else Always for a name tagged `latest` or not
    /// at all, IfNotPresent for others.
    pub fn of(container: &Container) -> Self {
        match container.image_pull_policy.as_deref() {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ if is_latest(container.image.as_deref().unwrap_or_default()) => Self::Always,
            _ => Self::IfNotPresent,
        }
    }

    /// What the policy asks for, given whether the node has the image.
    pub fn step(self, present: bool) -> ImageStep {
        match (self, present) {
            (Self::Always, _) | (Self::IfNotPresent, false) => ImageStep::Pull,
            (Self::IfNotPresent | Self::Never, true) => ImageStep::Use,
            (Self::Never, false) => ImageStep::Refuse,
        }
    }
}

/// Whether `image` parses as an image reference: `[host[:port]/]path[:tag][@digest]`, with
/// the alphabets of the OCI distribution specification.
pub fn is_valid(image: &str) -> bool {
    if image.is_empty() || image.len() > NAME_BYTES_MAX {
        return false;
    }
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let (name, tag) = split_tag(rest);
    let mut parts = name.split('/').peekable();
    let first_is_host =
        name.contains('/') && parts.peek().is_some_and(|p| p.contains(['.', ':']) || *p == "localhost");
    if first_is_host && !parts.next().is_some_and(is_host) {
        return false;
    }
    let mut any = false;
    let path_ok = parts.all(|part| {
        any = true;
        is_component(part)
    });
    any && path_ok && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

fn is_latest(image: &str) -> bool {
    !image.contains('@') && split_tag(image).1.is_none_or(|tag| tag == "latest")
}

/// Splits off the tag: what follows a colon behind the last slash.
fn split_tag(image: &str) -> (&str, Option<&str>) {
    let path_at = image.rfind('/').map_or(0, |at| at + 1);
    match image[path_at..].rfind(':') {
        Some(at) => (&image[..path_at + at], Some(&image[path_at + at + 1..])),
        None => (image, None),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case words joined by one of `.`, `_`, `__` or dashes.
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_ok = bytes.first().is_some_and(|b| word(*b)) && bytes.last().is_some_and(|b| word(*b));
    ends_ok
        && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'_' | b'-'))
        && !part.contains("..")
        && !part.contains("___")
        && !["._", "_.", ".-", "-.", "_-", "-_"].iter().any(|pair| part.contains(pair))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    !algorithm.is_empty()
        && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'-'))
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_as_references() {
        for good in [
            "hello",
            "hello:latest",
            "coracle.local/samples/hello:latest",
            "localhost:5000/a/b_c-d:V1.0",
            "busybox@sha256:0123456789012345678901234567890123456789012345678901234567890123",
        ] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "UPPER/case", "a//b", "a:", "a:b:c/", "hello world", "a@sha256", "/a", "a/..b", "-x"]
        {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn policies() {
        let of = |image: &str, policy: Option<&str>| {
            PullPolicy::of(&Container {
                image: Some(image.into()),
                image_pull_policy: policy.map(Into::into),
                ..Default::default()
            })
        };
        assert_eq!(of("a", None), PullPolicy::Always);
        assert_eq!(of("localhost:5000/a", None), PullPolicy::Always);
        assert_eq!(of("a:latest", Some("IfNotPresent")), PullPolicy::IfNotPresent);
        assert_eq!(of("a:v1", None), PullPolicy::IfNotPresent);
        assert_eq!(PullPolicy::Always.step(true), ImageStep::Pull);
        assert_eq!(PullPolicy::IfNotPresent.step(true), ImageStep::Use);
        assert_eq!(PullPolicy::Never.step(false), ImageStep::Refuse);
    }
}
