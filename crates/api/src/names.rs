//! The rules for names, label keys and values, ports and variables.
//!
//! A check answers the messages of every rule that the text breaks, in kube-apiserver's words;
//! an empty list means that the text is fine. None of them allocates for text that is fine.

/// The longest DNS label.
pub const LABEL_BYTES_MAX: usize = 63;
/// The longest DNS subdomain, and so the longest name of most objects.
pub const SUBDOMAIN_BYTES_MAX: usize = 253;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED_SHAPE: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_RULE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let b = text.as_bytes();
    match (b.first(), b.last()) {
        (Some(&first), Some(&last)) => {
            is_lower(first) && is_lower(last) && b.iter().all(|&c| is_lower(c) || c == b'-')
        }
        _ => false,
    }
}

fn is_qualified_part(text: &str) -> bool {
    let b = text.as_bytes();
    match (b.first(), b.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && b.iter().all(|&c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

fn check(text: &str, max: usize, rule: &str, holds: bool) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > max {
        out.push(too_long(max));
    }
    if !holds {
        out.push(rule.to_owned());
    }
    out
}

/// An RFC 1123 label, such as the name of a namespace.
pub fn dns1123_label(text: &str) -> Vec<String> {
    check(text, LABEL_BYTES_MAX, LABEL_RULE, is_label(text))
}

/// An RFC 1123 subdomain, such as the name of a pod.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    check(text, SUBDOMAIN_BYTES_MAX, SUBDOMAIN_RULE, text.split('.').all(is_label))
}

/// An RFC 1035 label, which begins with a letter: the name of a service.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let holds = is_label(text) && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    check(text, LABEL_BYTES_MAX, LABEL_1035_RULE, holds)
}

/// A wildcard domain, `*.` and a subdomain.
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let holds = text.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label));
    check(
        text,
        SUBDOMAIN_BYTES_MAX,
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        holds,
    )
}

/// A label or annotation key: an optional subdomain and `/`, then a name.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut parts = text.splitn(3, '/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if third.is_some() {
        return vec![QUALIFIED_SHAPE.to_owned()];
    }
    let mut out = Vec::new();
    let name = match second {
        None => first,
        Some(name) => {
            if first.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                out.extend(dns1123_subdomain(first).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES_MAX {
        out.push(format!("name part {}", too_long(LABEL_BYTES_MAX)));
    }
    if !is_qualified_part(name) {
        out.push(QUALIFIED_RULE.to_owned());
    }
    out
}

/// A label value, which may be empty.
pub fn label_value(text: &str) -> Vec<String> {
    check(text, LABEL_BYTES_MAX, LABEL_VALUE_RULE, text.is_empty() || is_qualified_part(text))
}

/// The name of a container port or of a service's target port.
pub fn port_name(text: &str) -> Vec<String> {
    let b = text.as_bytes();
    let mut out = Vec::new();
    if b.len() > 15 {
        out.push(too_long(15));
    }
    if !b.iter().all(|&c| is_lower(c) || c == b'-') || b.is_empty() {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !b.iter().any(u8::is_ascii_lowercase) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// A port number.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// Whether `value` lies between `low` and `high`, both allowed.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        Vec::new()
    } else {
        vec![format!("must be between {low} and {high}, inclusive")]
    }
}

/// The name of an environment variable.
pub fn env_var_name(text: &str) -> Vec<String> {
    let holds = !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    if holds { Vec::new() } else { vec![ENV_RULE.to_owned()] }
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(text: &str) -> Vec<String> {
    let holds = !text.is_empty()
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
    let mut out = check(text, SUBDOMAIN_BYTES_MAX, CONFIG_KEY_RULE, holds);
    match text {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

/// A name that only has to fit into one segment of a URL's path, as the names of RBAC objects.
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." => return vec!["may not be '.'".to_owned()],
        ".." => return vec!["may not be '..'".to_owned()],
        _ => {}
    }
    let mut out = Vec::new();
    for banned in ['/', '%'] {
        if text.contains(banned) {
            out.push(format!("may not contain '{banned}'"));
        }
    }
    out
}

/// An IP address, v4 without leading zeros or v6.
pub fn ip(text: &str) -> Vec<String> {
    if text.parse::<std::net::IpAddr>().is_ok() {
        Vec::new()
    } else {
        vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
    }
}

/// A CIDR block.
pub fn cidr(text: &str) -> Vec<String> {
    let holds = text.split_once('/').is_some_and(|(address, bits)| {
        let plain = !bits.is_empty()
            && bits.bytes().all(|b| b.is_ascii_digit())
            && (bits == "0" || !bits.starts_with('0'));
        let max = match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        plain && bits.parse::<u16>().is_ok_and(|n| n <= max)
    });
    if holds {
        Vec::new()
    } else {
        vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
    }
}

/// A percentage such as `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let holds =
        text.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if holds {
        Vec::new()
    } else {
        vec!["a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for text in ["a", "a-b", "1a", "123"] {
            assert!(dns1123_label(text).is_empty(), "{text}");
        }
        for text in ["a.b", "a", "1.2.3"] {
            assert!(dns1123_subdomain(text).is_empty(), "{text}");
        }
        for text in ["a", "A_b.c", "example.com/My-name", "kubernetes.io/os"] {
            assert!(qualified_name(text).is_empty(), "{text}");
        }
        for text in ["", "a", "A_b.c"] {
            assert!(label_value(text).is_empty(), "{text}");
        }
        for text in ["http", "a1", "8a"] {
            assert!(port_name(text).is_empty(), "{text}");
        }
        for text in ["A", "a-b", "x.y", "a b"] {
            assert!(env_var_name(text).is_empty(), "{text}");
        }
        assert!(config_map_key(".a").is_empty() && path_segment("system:a").is_empty());
        assert!(cidr("10.0.0.0/8").is_empty() && cidr("::/0").is_empty() && ip("::1").is_empty());
    }

    #[test]
    fn bad_names_say_why() {
        let long = "a".repeat(64);
        for text in ["", "A", "-a", "a-", "a.b", "a_b", &long] {
            assert!(!dns1123_label(text).is_empty(), "{text}");
        }
        for text in ["", ".", "a..b", "a.", "A.b"] {
            assert!(!dns1123_subdomain(text).is_empty(), "{text}");
        }
        for text in ["", "/", "a/", "/a", "a/b/c", "-a", "A/b", &long] {
            assert!(!qualified_name(text).is_empty(), "{text}");
        }
        for text in ["-", "a b", "a/", &long] {
            assert!(!label_value(text).is_empty(), "{text}");
        }
        for text in ["", "123", "-a", "a--b", "A", "a-name-of-sixteen"] {
            assert!(!port_name(text).is_empty(), "{text}");
        }
        for text in ["", "=", "a\n", "ä"] {
            assert!(!env_var_name(text).is_empty(), "{text}");
        }
        for text in ["", ".", "..", "..a", "a/b", "a b"] {
            assert!(!config_map_key(text).is_empty(), "{text}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "x/1", "10.0.0.0/+8"] {
            assert!(!cidr(text).is_empty(), "{text}");
        }
        assert!(
            !dns1035_label("1a").is_empty()
                && !path_segment("a/b").is_empty()
                && !path_segment("..").is_empty()
        );
        assert!(!port_number(0).is_empty() && !port_number(65536).is_empty() && percent("5").len() == 1);
    }
}
