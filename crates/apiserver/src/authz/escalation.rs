//! Nobody hands out rights that they do not have.
//!
//! A write of a role or binding by anybody outside `system:masters` is first tried as a dry
//! run; what it would store is checked against the writer's own rights, and only then it is
//! done. Such writes are done one at a time, so that what was checked is what is stored.
//! The verbs `escalate` (on roles) and `bind` (on the role that is bound) lift the check, as
//! in Kubernetes.

use coracle_api::meta;
use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use coracle_plan::rbac::{Attributes, GROUP, Rule, Target, binding_of, rules_of, uncovered};
use serde_json::Value;
use tokio::sync::Mutex;

use super::Authorizer;
use crate::internal::{self, At};
use crate::registry::{Registry, Reply};
use crate::request::{Call, ObjectFormat, RequestInfo, Verb};

/// Carries out writes of roles and bindings.
#[derive(Default)]
pub(crate) struct RoleWrites {
    one_at_a_time: Mutex<()>,
}

impl RoleWrites {
    /// Whether a request is such a write.
    pub(crate) fn concerns(info: &RequestInfo) -> bool {
        info.group == GROUP
            && info.subresource.is_none()
            && matches!(info.verb, Verb::Create | Verb::Update | Verb::Patch)
    }

    /// Carries out a write that [`RoleWrites::concerns`].
    ///
    /// # Errors
    /// 403 when it would hand out more than the writer has, and the registry's.
    pub(crate) async fn handle(
        &self,
        authorizer: &Authorizer,
        registry: &Registry,
        call: Call,
    ) -> Result<Reply, Status> {
        let _turn = self.one_at_a_time.lock().await;
        if !call.user.in_group(UserInfo::MASTERS) {
            let trial = Call { dry_run: true, format: ObjectFormat::default(), ..call.clone() };
            let Reply::Object { body, .. } = registry.handle(trial).await? else {
                return Err(Status::internal("a write was answered with a watch"));
            };
            let object: Value = serde_json::from_slice(&body.into_bytes()).map_err(Status::internal)?;
            check(authorizer, registry, &call, &object).await?;
        }
        registry.handle(call).await
    }
}

async fn check(
    authorizer: &Authorizer,
    registry: &Registry,
    call: &Call,
    object: &Value,
) -> Result<(), Status> {
    let info = &call.info;
    let namespace = info.namespace.as_deref();
    let name = meta::name(object);
    let wanted = match info.plural.as_str() {
        "roles" | "clusterroles" => {
            if may(authorizer, &call.user, "escalate", &info.plural, namespace, name)
                || unchanged(registry, info, name, object).await
            {
                return Ok(());
            }
            let mut wanted = rules_of(object);
            if object.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
                // What it will hold is decided by labels, so its writer must own everything.
                wanted.extend(everything());
            }
            wanted
        }
        _ => {
            let (_, role) = binding_of(object);
            let (plural, role_namespace) =
                if role.kind == "Role" { ("roles", namespace) } else { ("clusterroles", None) };
            if may(authorizer, &call.user, "bind", plural, namespace, &role.name) {
                return Ok(());
            }
            authorizer
                .role(role_namespace, &role.name)
                .ok_or_else(|| Status::not_found(GROUP, plural, &role.name))?
        }
    };
    let owned = authorizer.rules(&call.user, namespace);
    let missing = uncovered(&owned.iter().collect::<Vec<_>>(), &wanted);
    if missing.is_empty() { Ok(()) } else { Err(refusal(info, &call.user, name, &missing)) }
}

fn may(
    authorizer: &Authorizer,
    user: &UserInfo,
    verb: &str,
    plural: &str,
    namespace: Option<&str>,
    name: &str,
) -> bool {
    let target = Target::Resource { group: GROUP, plural, subresource: None, namespace, name: Some(name) };
    authorizer.require(&Attributes { user: &user.name, groups: &user.groups, verb, target }).is_ok()
}

/// Whether a write leaves the rights of a stored role as they are.
async fn unchanged(registry: &Registry, info: &RequestInfo, name: &str, object: &Value) -> bool {
    let at = At { namespace: info.namespace.as_deref(), ..At::v1(GROUP, &info.plural).named(name) };
    match internal::get(registry, at).await {
        Ok(stored) => {
            info.verb != Verb::Create
                && rules_of(&stored) == rules_of(object)
                && stored.get("aggregationRule") == object.get("aggregationRule")
        }
        Err(_) => false,
    }
}

fn everything() -> [Rule; 2] {
    let any = || vec!["*".to_owned()];
    [
        Rule { verbs: any(), api_groups: any(), resources: any(), ..Rule::default() },
        Rule { verbs: any(), non_resource_urls: any(), ..Rule::default() },
    ]
}

fn refusal(info: &RequestInfo, user: &UserInfo, name: &str, missing: &[Rule]) -> Status {
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:",
        user.name,
        go_list(&user.groups)
    );
    for rule in compact(missing) {
        let parts = [
            ("APIGroups", &rule.api_groups),
            ("Resources", &rule.resources),
            ("ResourceNames", &rule.resource_names),
            ("NonResourceURLs", &rule.non_resource_urls),
            ("Verbs", &rule.verbs),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(key, values)| format!("{key}:{}", go_list(values)))
            .collect();
        why.push_str(&format!("\n{{{}}}", parts.join(", ")));
    }
    Status::forbidden(GROUP, &info.plural, name, why)
}

/// Joins the verbs of rules that are otherwise the same.
fn compact(rules: &[Rule]) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut Rule| {
            other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && other.resource_names == rule.resource_names
                && other.non_resource_urls == rule.non_resource_urls
        };
        match joined.iter_mut().find(same) {
            Some(known) => known.verbs.extend(rule.verbs.iter().cloned()),
            None => joined.push(rule.clone()),
        }
    }
    joined
}

/// A list as Go prints it: quoted, with spaces between.
fn go_list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn only_writes_of_roles_and_bindings_are_checked() {
        let concerns =
            |method: Method, path: &str| RoleWrites::concerns(&RequestInfo::parse(&method, path, None));
        let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/n/roles";
        assert!(concerns(Method::POST, roles));
        assert!(concerns(Method::PATCH, &format!("{roles}/r")));
        assert!(!concerns(Method::DELETE, &format!("{roles}/r")));
        assert!(!concerns(Method::GET, roles));
        assert!(!concerns(Method::POST, "/api/v1/namespaces/n/pods"));
    }

    #[test]
    fn refusals_list_what_is_missing() {
        let info = RequestInfo::parse(&Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterroles", None);
        let rule = |verb: &str| Rule {
            verbs: vec![verb.into()],
            api_groups: vec![String::new()],
            resources: vec!["pods".into()],
            ..Rule::default()
        };
        let status = refusal(&info, &UserInfo::new("ann", ["g"]), "r", &[rule("get"), rule("delete")]);
        assert_eq!(
            status.message,
            "clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: user \"ann\" (groups=[\"g\" \
             \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"delete\"]}"
        );
    }
}
