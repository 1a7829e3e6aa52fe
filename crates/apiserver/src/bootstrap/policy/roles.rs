//! The rules of the default cluster roles, as a table that reads like RBAC is spoken.
//!
//! One rule per line: `verbs | groups | resources`, or `verbs | paths` for paths that are no
//! resources. `core` is the core group. The names of roles and what they may do are those of
//! Kubernetes, as far as the resources exist here.

use coracle_plan::rbac::{Rule, aggregate};

/// A cluster role: name, which aggregated role it is labelled for, and its rules.
type Role = (&'static str, Option<&'static str>, &'static str);

/// Every default cluster role but the aggregated ones.
pub(super) const CLUSTER_ROLES: &[Role] = &[
    ("cluster-admin", None, "* | * | *\n* | *"),
    ("system:discovery", None, DISCOVERY),
    ("system:public-info-viewer", None, "get | /healthz /livez /readyz /version /version/"),
    ("system:basic-user", None, BASIC_USER),
    (
        "system:monitoring",
        None,
        "get | /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
    ),
    ("system:auth-delegator", None, REVIEWS),
    ("system:aggregate-to-admin", Some("admin"), TO_ADMIN),
    ("system:aggregate-to-edit", Some("edit"), TO_EDIT),
    ("system:aggregate-to-view", Some("view"), TO_VIEW),
    ("system:node", None, NODE),
    ("system:node-proxier", None, NODE_PROXIER),
    ("system:kube-scheduler", None, SCHEDULER),
    ("system:kube-controller-manager", None, CONTROLLER_MANAGER),
    ("system:controller:deployment-controller", None, DEPLOYMENT),
    ("system:controller:replicaset-controller", None, REPLICASET),
    ("system:controller:job-controller", None, JOB),
    ("system:controller:endpointslice-controller", None, ENDPOINTSLICE),
    ("system:controller:namespace-controller", None, NAMESPACE),
    ("system:controller:generic-garbage-collector", None, GARBAGE_COLLECTOR),
    ("system:controller:service-account-controller", None, SERVICE_ACCOUNT),
    ("system:controller:root-ca-cert-publisher", None, ROOT_CA),
    ("system:controller:node-controller", None, NODE_CONTROLLER),
];

const DISCOVERY: &str =
    "get | /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/";
const BASIC_USER: &str = "\
    create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews
    create | authentication.k8s.io | selfsubjectreviews";
const REVIEWS: &str = "\
    create | authentication.k8s.io | tokenreviews
    create | authorization.k8s.io | subjectaccessreviews";

const TO_VIEW: &str = "\
    get list watch | core | configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods \
        replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status
    get list watch | core | bindings events limitranges namespaces/status pods/log pods/status \
        replicationcontrollers/status resourcequotas resourcequotas/status namespaces
    get list watch | discovery.k8s.io | endpointslices
    get list watch | apps | controllerrevisions daemonsets daemonsets/status deployments deployments/scale \
        deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale \
        statefulsets/status
    get list watch | autoscaling | horizontalpodautoscalers horizontalpodautoscalers/status
    get list watch | batch | cronjobs cronjobs/status jobs jobs/status
    get list watch | networking.k8s.io | ingresses ingresses/status networkpolicies
    get list watch | policy | poddisruptionbudgets poddisruptionbudgets/status";

const TO_EDIT: &str = "\
    get list watch | core | pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy
    impersonate | core | serviceaccounts
    create delete deletecollection patch update | core | pods pods/attach pods/exec pods/portforward pods/proxy
    create | core | pods/eviction
    create delete deletecollection patch update | core | configmaps events persistentvolumeclaims \
        replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy
    create | core | serviceaccounts/token
    create delete deletecollection patch update | apps | daemonsets deployments deployments/rollback \
        deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale
    create delete deletecollection patch update | autoscaling | horizontalpodautoscalers
    create delete deletecollection patch update | batch | cronjobs jobs
    create delete deletecollection patch update | networking.k8s.io | ingresses networkpolicies
    create delete deletecollection patch update | policy | poddisruptionbudgets
    create delete deletecollection get list patch update watch | coordination.k8s.io | leases";

const TO_ADMIN: &str = "\
    create | authorization.k8s.io | localsubjectaccessreviews
    create delete deletecollection get list patch update watch | rbac.authorization.k8s.io | roles rolebindings";

const NODE: &str = "\
    create | authentication.k8s.io | tokenreviews
    create | authorization.k8s.io | subjectaccessreviews localsubjectaccessreviews
    get list watch | core | services
    create get list watch patch update | core | nodes
    patch update | core | nodes/status
    create patch update | core events.k8s.io | events
    create delete get list watch | core | pods
    patch update | core | pods/status
    create | core | pods/eviction
    get list watch | core | configmaps secrets
    get | core | persistentvolumeclaims persistentvolumes endpoints serviceaccounts
    create | core | serviceaccounts/token
    create get list watch | certificates.k8s.io | certificatesigningrequests
    create delete get patch update | coordination.k8s.io | leases
    get | storage.k8s.io | volumeattachments
    get list watch | storage.k8s.io | csidrivers
    create delete get patch update | storage.k8s.io | csinodes
    get list watch | node.k8s.io | runtimeclasses";

const NODE_PROXIER: &str = "\
    list watch | core | services endpoints
    get list watch | core | nodes
    list watch | discovery.k8s.io | endpointslices
    list watch | networking.k8s.io | servicecidrs
    create patch update | core events.k8s.io | events";

const SCHEDULER: &str = "\
    create patch update | core events.k8s.io | events
    create get list patch update watch | coordination.k8s.io | leases
    get list watch | core | nodes namespaces services replicationcontrollers
    delete get list watch | core | pods
    create | core | bindings pods/binding
    patch update | core | pods/status
    get list patch update watch | core | persistentvolumeclaims persistentvolumes
    get list watch | apps | replicasets statefulsets
    get list watch | policy | poddisruptionbudgets
    get list watch | scheduling.k8s.io | priorityclasses
    get list watch | storage.k8s.io | csidrivers csinodes csistoragecapacities storageclasses volumeattachments
    create | authentication.k8s.io | tokenreviews
    create | authorization.k8s.io | subjectaccessreviews";

const CONTROLLER_MANAGER: &str = "\
    create patch update | core events.k8s.io | events
    create get list patch update watch | coordination.k8s.io | leases
    create get update | core | serviceaccounts
    create | core | serviceaccounts/token
    create | authentication.k8s.io | tokenreviews
    create | authorization.k8s.io | subjectaccessreviews
    get list watch | * | *";

const DEPLOYMENT: &str = "\
    get list patch update watch | apps | deployments
    patch update | apps | deployments/status deployments/finalizers
    create delete get list patch update watch | apps | replicasets
    get list update watch | core | pods
    create patch update | core events.k8s.io | events";
const REPLICASET: &str = "\
    get list patch update watch | apps | replicasets
    patch update | apps | replicasets/status replicasets/finalizers
    create delete list patch update watch | core | pods
    create patch update | core events.k8s.io | events";
const JOB: &str = "\
    get list patch update watch | batch | jobs
    patch update | batch | jobs/status jobs/finalizers
    create delete list patch update watch | core | pods
    patch update | core | pods/status
    create patch update | core events.k8s.io | events";
const ENDPOINTSLICE: &str = "\
    get list watch | core | services pods nodes
    update | core | services/finalizers
    create delete get list patch update watch | discovery.k8s.io | endpointslices
    create get list patch update delete watch | core | endpoints
    create patch update | core events.k8s.io | events";
const NAMESPACE: &str = "\
    delete get list update watch | core | namespaces
    update patch | core | namespaces/finalize namespaces/status
    delete deletecollection get list | * | *";
const GARBAGE_COLLECTOR: &str = "\
    delete get list patch update watch | * | *
    create patch update | core events.k8s.io | events";
const SERVICE_ACCOUNT: &str = "\
    create | core | serviceaccounts
    create patch update | core events.k8s.io | events";
const ROOT_CA: &str = "\
    create update patch | core | configmaps
    create patch update | core events.k8s.io | events";
const NODE_CONTROLLER: &str = "\
    delete get list patch update watch | core | nodes
    patch update | core | nodes/status
    delete get list patch watch | core | pods
    patch update | core | pods/status
    get list watch | coordination.k8s.io | leases
    create patch update | core events.k8s.io | events";

/// The aggregated roles, each with the role that it is itself labelled for and its rules.
pub(super) fn aggregated() -> [(&'static str, Option<&'static str>, Vec<Rule>); 3] {
    let labelled = |target: &str| -> Vec<Rule> {
        CLUSTER_ROLES
            .iter()
            .filter(|(_, to, _)| *to == Some(target))
            .flat_map(|(.., text)| rules(text))
            .collect()
    };
    let view = aggregate([&labelled("view")[..]]);
    let edit = aggregate([&labelled("edit")[..], &view[..]]);
    let admin = aggregate([&labelled("admin")[..], &edit[..]]);
    [("admin", None, admin), ("edit", Some("admin"), edit), ("view", Some("edit"), view)]
}

/// Reads the table's text.
pub(super) fn rules(text: &str) -> Vec<Rule> {
    let words = |part: &str| -> Vec<String> { part.split_whitespace().map(str::to_owned).collect() };
    text.lines()
        .map(|line| {
            let mut parts = line.split('|');
            let verbs = words(parts.next().unwrap_or_default());
            let second = words(parts.next().unwrap_or_default());
            match parts.next() {
                None => Rule { verbs, non_resource_urls: second, ..Rule::default() },
                Some(resources) => Rule {
                    verbs,
                    api_groups: second
                        .into_iter()
                        .map(|g| if g == "core" { String::new() } else { g })
                        .collect(),
                    resources: words(resources),
                    ..Rule::default()
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        for (name, _, text) in CLUSTER_ROLES {
            for rule in rules(text) {
                assert!(!rule.verbs.is_empty(), "{name}: {rule:?}");
                let paths = !rule.non_resource_urls.is_empty();
                assert!(
                    paths || (!rule.api_groups.is_empty() && !rule.resources.is_empty()),
                    "{name}: {rule:?}"
                );
                assert!(
                    rule.verbs.iter().all(|v| v == "*" || v.chars().all(char::is_alphabetic)),
                    "{name}: {rule:?}"
                );
            }
        }
    }

    #[test]
    fn a_line_is_a_rule() {
        let read = rules("get list | core apps | pods x/status\nget | /a /b/*");
        assert_eq!(read[0].api_groups, ["", "apps"]);
        assert_eq!(read[0].resources, ["pods", "x/status"]);
        assert_eq!(read[1].non_resource_urls, ["/a", "/b/*"]);
    }
}
