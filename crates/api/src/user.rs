//! Who makes a request. The value travels as a typed request extension, never as a header.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An authenticated identity, as `authentication.k8s.io/v1 UserInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The name that uniquely identifies the user, such as `system:node:a`.
    #[serde(rename = "username")]
    pub name: String,
    /// A stable identifier; empty for identities that have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups that the user is part of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Facts that the authenticator adds, such as the pod a token was issued for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// The group that may do everything.
    pub const MASTERS: &'static str = "system:masters";
    /// The group of every identity that has proved itself.
    pub const AUTHENTICATED: &'static str = "system:authenticated";
    /// The group of requests without an identity.
    pub const UNAUTHENTICATED: &'static str = "system:unauthenticated";

    /// An authenticated user in `groups` and in `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|g| g == Self::AUTHENTICATED) {
            groups.push(Self::AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// The identity of requests that carry no credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec![Self::UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Whether the user is in `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_user_is_authenticated_once() {
        let user = UserInfo::new("a", ["x", UserInfo::AUTHENTICATED]);
        assert_eq!(user.groups, ["x", "system:authenticated"]);
        assert!(user.in_group("x") && !user.in_group("y"));
        assert!(!UserInfo::anonymous().in_group(UserInfo::AUTHENTICATED));
    }
}
