//! May they: RBAC over the roles and bindings that the registry holds.
//!
//! The decision itself is `coracle_plan::rbac`; here is its [`Index`], kept up to date by
//! four watches on the registry, and the wording of refusals.

mod escalation;
mod feed;

use std::sync::Arc;

use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use coracle_plan::rbac::{Attributes, Index, Rule, Target};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;
use crate::request::{RequestInfo, Verb};

pub(crate) use escalation::RoleWrites;
pub(crate) use feed::Feed;

/// Paths that everybody may read, whatever the roles say, so that probes work while the
/// roles are not known yet.
const ALWAYS_ALLOWED: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Decides; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Authorizer(Arc<RwLock<Index>>);

impl Authorizer {
    /// An authorizer over a given index, without a feed.
    #[cfg(test)]
    pub(crate) fn with(index: Index) -> Self {
        Self(Arc::new(RwLock::new(index)))
    }

    /// Follows roles and bindings in the registry until `shutdown`.
    pub(crate) fn follow(&self, registry: &Registry, shutdown: &CancellationToken) -> Feed {
        Feed::start(&self.0, registry, shutdown)
    }

    /// Lets a request pass or refuses it.
    ///
    /// # Errors
    /// 403, worded as kube-apiserver does.
    pub(crate) fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        if !info.is_resource
            && info.verb == Verb::Get
            && ALWAYS_ALLOWED.contains(&info.path.trim_end_matches('/'))
        {
            return Ok(());
        }
        self.require(&attributes(user, info))
    }

    /// Lets a question pass or refuses it.
    ///
    /// # Errors
    /// 403, worded as kube-apiserver does.
    pub(crate) fn require(&self, what: &Attributes<'_>) -> Result<(), Status> {
        if self.0.read().allows(what).is_some() {
            return Ok(());
        }
        let (group, plural, name) = match what.target {
            Target::Resource { group, plural, name, .. } => (group, plural, name.unwrap_or_default()),
            Target::Path(_) => ("", "", ""),
        };
        Err(Status::forbidden(group, plural, name, what))
    }

    /// Why something is allowed; `None` when it is not.
    pub(crate) fn explain(&self, what: &Attributes<'_>) -> Option<String> {
        self.0.read().allows(what).map(|grant| grant.to_string())
    }

    /// The rules that a user has in a namespace, or cluster-wide.
    pub(crate) fn rules(&self, user: &UserInfo, namespace: Option<&str>) -> Vec<Rule> {
        self.0.read().rules_for(&user.name, &user.groups, namespace).cloned().collect()
    }

    /// The rules of a role; `None` when there is no such role.
    fn role(&self, namespace: Option<&str>, name: &str) -> Option<Vec<Rule>> {
        self.0.read().role(namespace, name).map(<[Rule]>::to_vec)
    }
}

/// The question that a request asks.
fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> Attributes<'a> {
    let target = if info.is_resource {
        Target::Resource {
            group: &info.group,
            plural: &info.plural,
            subresource: info.subresource.as_deref(),
            namespace: info.namespace.as_deref(),
            name: info.authorization_name(),
        }
    } else {
        Target::Path(&info.path)
    };
    Attributes { user: &user.name, groups: &user.groups, verb: info.verb.as_str(), target }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn refusal(method: Method, path: &str) -> String {
        let info = RequestInfo::parse(&method, path, None);
        Authorizer::default().authorize(&UserInfo::new("x", ["g"]), &info).unwrap_err().message
    }

    #[test]
    fn refusals_are_worded_as_by_the_real_server() {
        assert_eq!(
            refusal(Method::GET, "/api/v1/namespaces/y/pods"),
            "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"y\""
        );
        assert_eq!(
            refusal(Method::DELETE, "/apis/apps/v1/namespaces/y/deployments/d"),
            "deployments.apps \"d\" is forbidden: User \"x\" cannot delete resource \"deployments\" \
             in API group \"apps\" in the namespace \"y\""
        );
        assert_eq!(
            refusal(Method::GET, "/api/v1/nodes"),
            "nodes is forbidden: User \"x\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
        );
        assert_eq!(refusal(Method::GET, "/metrics"), "forbidden: User \"x\" cannot get path \"/metrics\"");
    }

    #[test]
    fn health_needs_no_rights_but_reading() {
        let authorizer = Authorizer::default();
        let may = |method, path| {
            authorizer.authorize(&UserInfo::anonymous(), &RequestInfo::parse(&method, path, None)).is_ok()
        };
        assert!(may(Method::GET, "/healthz") && may(Method::GET, "/readyz"));
        assert!(!may(Method::POST, "/healthz"));
        assert!(!may(Method::GET, "/healthz/ping"));
        assert!(!may(Method::GET, "/api"));
    }
}
