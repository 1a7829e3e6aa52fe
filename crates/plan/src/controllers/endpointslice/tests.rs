//! Tables of endpoint decisions.

use k8s_openapi::api::core::v1::{ContainerPort, ServiceSpec};

use super::*;
use crate::controllers::testing::{MakePod, at, labels as make_labels, meta};

fn service(target: IntOrString) -> Service {
    Service {
        metadata: meta("web"),
        spec: Some(ServiceSpec {
            selector: Some(make_labels(&[("app", "web")])),
            ports: Some(vec![ServicePort {
                name: Some("http".into()),
                port: 80,
                target_port: Some(target),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn snapshot(service: Service, pods: Vec<Arc<Pod>>) -> Snapshot {
    Snapshot { service: Some(Arc::new(service)), pods, ..Snapshot::default() }
}

fn made<'a>(plan: &'a Plan, kind: &str) -> Vec<&'a serde_json::Value> {
    let of_kind = plan.writes().filter(|write| write.kind().kind == kind);
    of_kind
        .filter_map(|write| match write {
            Write::Create { object, .. } | Write::Update { object, .. } => Some(object),
            _ => None,
        })
        .collect()
}

/// What the plan leaves behind, as the next plan's snapshot.
fn applied(mut snapshot: Snapshot, plan: &Plan) -> Snapshot {
    for (at, write) in plan.writes().enumerate() {
        match write {
            Write::Create { object, kind, .. } if kind.kind == "EndpointSlice" => {
                let mut slice: EndpointSlice = serde_json::from_value(object.clone()).unwrap();
                slice.metadata.name = Some(format!("web-{at}-{}", snapshot.slices.len()));
                snapshot.slices.push(Arc::new(slice));
            }
            Write::Update { object, target, .. } if target.kind.kind == "EndpointSlice" => {
                let slice: EndpointSlice = serde_json::from_value(object.clone()).unwrap();
                let same = |known: &Arc<EndpointSlice>| known.metadata.name == slice.metadata.name;
                let place = snapshot.slices.iter().position(same).unwrap();
                snapshot.slices[place] = Arc::new(slice);
            }
            Write::Delete { target, .. } => {
                let name = Some(target.name.clone());
                snapshot.slices.retain(|known| known.metadata.name != name);
            }
            Write::Create { object, .. } | Write::Update { object, .. } => {
                snapshot.endpoints = Some(Arc::new(serde_json::from_value(object.clone()).unwrap()));
            }
            _ => panic!("unexpected {write:?}"),
        }
    }
    snapshot
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let pods = vec![
        MakePod::new("ready").ip("10.128.0.2").node("n").ready(1).build(),
        MakePod::new("starting").ip("10.128.0.3").node("n").build(),
        MakePod::new("leaving").ip("10.128.0.4").node("n").ready(1).deleting().build(),
        MakePod::new("ended").ip("10.128.0.5").phase("Succeeded").build(),
        MakePod::new("no-address").build(),
        MakePod::new("stranger").ip("10.128.0.6").label("app", "db").build(),
    ];
    let facts = snapshot(service(IntOrString::Int(8080)), pods);
    let plan = plan(&facts, at(0));
    let slices = made(&plan, "EndpointSlice");
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
    assert_eq!(slices[0]["metadata"]["labels"][SERVICE_NAME], "web");
    let told: Vec<String> = slices[0]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| {
            let is = &endpoint["conditions"];
            format!("{} {} {}", endpoint["targetRef"]["name"], is["ready"], is["terminating"])
        })
        .collect();
    assert_eq!(told, ["\"leaving\" false true", "\"ready\" true false", "\"starting\" false false"]);
    let subset = &made(&plan, "Endpoints")[0]["subsets"][0];
    assert_eq!(subset["addresses"][0]["ip"], "10.128.0.2");
    assert_eq!(subset["notReadyAddresses"][0]["ip"], "10.128.0.3");
    assert_eq!(subset["notReadyAddresses"].as_array().unwrap().len(), 1);
    assert!(super::plan(&applied(facts, &plan), at(1)).actions.is_empty());
}

#[test]
fn named_ports_are_looked_up_in_each_pod() {
    let pod = |name: &str, ip: &str, number: i32| {
        MakePod::new(name).ip(ip).ready(1).with(|pod| {
            let spec = pod.spec.as_mut().unwrap();
            spec.containers[0].ports = Some(vec![ContainerPort {
                name: Some("web".into()),
                container_port: number,
                ..ContainerPort::default()
            }]);
        })
    };
    let pods = vec![pod("a", "10.128.0.2", 8080).build(), pod("b", "10.128.0.3", 9090).build()];
    let plan = plan(&snapshot(service(IntOrString::String("web".into())), pods), at(0));
    let ports: Vec<&serde_json::Value> =
        made(&plan, "EndpointSlice").iter().map(|slice| &slice["ports"][0]["port"]).collect();
    assert_eq!(ports, [8080, 9090]);
}

#[test]
fn slices_hold_a_hundred_and_change_little() {
    let pods: Vec<Arc<Pod>> = (0..250)
        .map(|n| MakePod::new(&format!("p{n:03}")).ip(&format!("10.128.1.{n}")).ready(1).build())
        .collect();
    let mut facts = snapshot(service(IntOrString::Int(80)), pods);
    let first = plan(&facts, at(0));
    let lengths: Vec<usize> = made(&first, "EndpointSlice")
        .iter()
        .map(|slice| slice["endpoints"].as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, [100, 100, 50]);
    facts = applied(facts, &first);
    facts.pods.remove(0);
    facts.pods.push(MakePod::new("late").ip("10.128.2.1").ready(1).build());
    let second = plan(&facts, at(1));
    assert_eq!(made(&second, "EndpointSlice").len(), 1, "the gap is filled");
    facts = applied(facts, &second);
    facts.pods.clear();
    let third = plan(&facts, at(2));
    facts = applied(facts, &third);
    assert_eq!(facts.slices.len(), 1, "one empty slice stays");
    assert!(plan(&facts, at(3)).actions.is_empty());
}

#[test]
fn services_without_selector_are_left_alone_and_endpoints_go_with_the_service() {
    let mut manual = service(IntOrString::Int(80));
    manual.spec.as_mut().unwrap().selector = None;
    let pods = vec![MakePod::new("a").ip("10.128.0.2").ready(1).build()];
    assert!(plan(&snapshot(manual, pods.clone()), at(0)).actions.is_empty());

    let facts = snapshot(service(IntOrString::Int(80)), pods);
    let mut facts = applied(facts.clone(), &plan(&facts, at(0)));
    facts.service = None;
    let last = plan(&facts, at(1));
    let names: Vec<&str> = last.writes().map(|write| write.verb()).collect();
    assert_eq!(names, ["delete"]);
}

#[test]
fn headless_services_publish_hostnames() {
    let mut headless = service(IntOrString::Int(80));
    headless.spec.as_mut().unwrap().cluster_ip = Some("None".into());
    let pod = MakePod::new("a").ip("10.128.0.2").ready(1).with(|pod| {
        let spec = pod.spec.as_mut().unwrap();
        spec.hostname = Some("db-0".into());
        spec.subdomain = Some("web".into());
    });
    let plan = plan(&snapshot(headless, vec![pod.build()]), at(0));
    let slice = made(&plan, "EndpointSlice")[0];
    assert_eq!(slice["endpoints"][0]["hostname"], "db-0");
    assert_eq!(slice["metadata"]["labels"][HEADLESS], "");
}
