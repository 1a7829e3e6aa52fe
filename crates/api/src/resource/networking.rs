//! Group `networking.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::{cluster, namespaced};

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster("networking.k8s.io", "v1", "ingressclasses", "ingressclass", "IngressClass").columns(&[
            ("Name", "string", "name", 0),
            ("Controller", "string", "", 0),
            ("Parameters", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        namespaced("networking.k8s.io", "v1", "ingresses", "ingress", "Ingress")
            .short(&["ing"])
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Class", "string", "", 0),
                ("Hosts", "string", "", 0),
                ("Address", "string", "", 0),
                ("Ports", "string", "", 0),
                ("Age", "string", "", 0),
            ]),
        cluster("networking.k8s.io", "v1", "ipaddresses", "ipaddress", "IPAddress")
            .short(&["ip"])
            .columns(&[("Name", "string", "name", 0), ("ParentRef", "string", "", 0)]),
        namespaced("networking.k8s.io", "v1", "networkpolicies", "networkpolicy", "NetworkPolicy")
            .short(&["netpol"])
            .columns(&[
                ("Name", "string", "name", 0),
                ("Pod-Selector", "string", "", 0),
                ("Age", "string", "", 0),
            ]),
        cluster("networking.k8s.io", "v1", "servicecidrs", "servicecidr", "ServiceCIDR").status().columns(&[
            ("Name", "string", "name", 0),
            ("CIDRs", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
    ]
}
