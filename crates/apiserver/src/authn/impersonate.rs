//! Acting as somebody else: the `Impersonate-*` headers, each of which the caller needs the
//! `impersonate` right for.

use std::collections::BTreeMap;

use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use coracle_plan::rbac::{Attributes, Target};
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::ANONYMOUS;
use crate::authz::Authorizer;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// What the headers ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// The user to act as: the one that the headers name, or `actor` when there are none.
///
/// # Errors
/// 403 when `actor` lacks the right to one of them, 400 when no user is named.
pub(super) fn apply(
    actor: UserInfo,
    headers: &HeaderMap,
    authorizer: &Authorizer,
) -> Result<UserInfo, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(actor) };
    let check =
        |group: &str, plural: &str, subresource: Option<&str>, namespace: Option<&str>, name: &str| {
            authorizer.require(&Attributes {
                user: &actor.name,
                groups: &actor.groups,
                verb: "impersonate",
                target: Target::Resource { group, plural, subresource, namespace, name: Some(name) },
            })
        };
    match service_account(&wanted.name) {
        Some((namespace, name)) => check("", "serviceaccounts", None, Some(namespace), name)?,
        None => check("", "users", None, None, &wanted.name)?,
    }
    if let Some(uid) = &wanted.uid {
        check(AUTHENTICATION, "uids", None, None, uid)?;
    }
    for group in &wanted.groups {
        check("", "groups", None, None, group)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check(AUTHENTICATION, "userextras", Some(key.as_str()), None, value)?;
        }
    }
    tracing::debug!(actor = %actor.name, user = %wanted.name, "impersonation");
    Ok(become_user(wanted))
}

fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, Status> {
    let text = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    let groups: Vec<String> =
        headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) else { continue };
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        extra.entry(key).or_default().push(value.to_owned());
    }
    let uid = text(UID);
    match text(USER) {
        Some(name) => Ok(Some(Wanted { name, uid, groups, extra })),
        None if uid.is_none() && groups.is_empty() && extra.is_empty() => Ok(None),
        None => {
            Err(Status::bad_request("impersonation of a group, uid or extra without impersonating a user"))
        }
    }
}

fn become_user(wanted: Wanted) -> UserInfo {
    let Wanted { name, uid, mut groups, extra } = wanted;
    if let Some((namespace, _)) = service_account(&name).filter(|_| groups.is_empty()) {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let known = |group: &str| groups.iter().any(|g| g == group);
    if name == ANONYMOUS {
        if !known(UserInfo::UNAUTHENTICATED) {
            groups.push(UserInfo::UNAUTHENTICATED.to_owned());
        }
    } else if !known(UserInfo::AUTHENTICATED) && !known(UserInfo::UNAUTHENTICATED) {
        groups.push(UserInfo::AUTHENTICATED.to_owned());
    }
    UserInfo { name, uid: uid.unwrap_or_default(), groups, extra }
}

/// Namespace and name of a ServiceAccount's user name.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_plan::rbac::{Index, RoleRef, Rule, Subject};
    use http::{HeaderName, HeaderValue};

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in list {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value));
        }
        map
    }

    fn masters() -> UserInfo {
        UserInfo::new("admin", [UserInfo::MASTERS])
    }

    #[test]
    fn the_impersonated_user_has_what_the_headers_say() {
        let authorizer = Authorizer::default();
        let act = |list: &[_]| apply(masters(), &headers(list), &authorizer).unwrap();
        let user = act(&[
            ("Impersonate-User", "ann"),
            ("Impersonate-Group", "team"),
            ("impersonate-group", "other"),
            ("Impersonate-Uid", "u-1"),
            ("Impersonate-Extra-Scopes", "a"),
            ("Impersonate-Extra-acme.com%2fRole", "b"),
        ]);
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("ann", "u-1"));
        assert_eq!(user.groups, ["team", "other", "system:authenticated"]);
        assert_eq!(user.extra["acme.com/role"], ["b"]);
        assert_eq!(user.extra["scopes"], ["a"]);

        let robot = act(&[("Impersonate-User", "system:serviceaccount:ns:robot")]);
        assert_eq!(
            robot.groups,
            ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        );
        assert_eq!(act(&[("Impersonate-User", ANONYMOUS)]).groups, ["system:unauthenticated"]);
        assert_eq!(act(&[]), masters());
    }

    #[test]
    fn each_header_needs_its_own_right() {
        let mut index = Index::new();
        let rule = Rule {
            verbs: vec!["impersonate".into()],
            api_groups: vec![String::new()],
            resources: vec!["users".into()],
            resource_names: vec!["ann".into()],
            ..Rule::default()
        };
        index.set_role(None, "r", vec![rule]);
        let subject = Subject { kind: "User".into(), name: "bob".into(), namespace: None };
        index.set_binding(None, "b", &[subject], &RoleRef { kind: "ClusterRole".into(), name: "r".into() });
        let authorizer = Authorizer::with(index);
        let code = |list: &[_]| {
            apply(UserInfo::new("bob", ["x"]), &headers(list), &authorizer).map_or_else(|s| s.code, |_| 200)
        };
        assert_eq!(code(&[("Impersonate-User", "ann")]), 200);
        assert_eq!(code(&[("Impersonate-User", "eve")]), 403);
        assert_eq!(code(&[("Impersonate-User", "ann"), ("Impersonate-Group", "system:masters")]), 403);
        assert_eq!(code(&[("Impersonate-User", "ann"), ("Impersonate-Uid", "1")]), 403);
        assert_eq!(code(&[("Impersonate-User", "ann"), ("Impersonate-Extra-a", "1")]), 403);
        assert_eq!(code(&[("Impersonate-Group", "x")]), 400);
    }
}
