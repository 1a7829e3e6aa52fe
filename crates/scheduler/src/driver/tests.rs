//! The loop's steps against an API that only knows bindings and patches.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use coracle_client::events::Recorder;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::{Container, NodeStatus, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// What the API was asked to write: path and body.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<(String, Value)>>>);

impl Written {
    fn to(&self, ending: &str) -> Vec<Value> {
        let all = self.0.lock();
        all.iter().filter(|(path, _)| path.ends_with(ending)).map(|(_, body)| body.clone()).collect()
    }
}

/// A client of an API that answers bindings with `code` and everything else with success.
fn client(code: u16, written: &Written) -> kube::Client {
    let written = written.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let written = written.clone();
        async move {
            let (path, write) = (request.uri().path().to_owned(), request.method() != Method::GET);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let binding = path.ends_with("/binding");
            if write {
                written.0.lock().push((path, body.clone()));
            }
            let code = if binding { code } else { 200 };
            let answer = match code {
                200..300 if binding => json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }),
                200..300 => body,
                _ => json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "code": code, "reason": "Conflict", "message": "no"
                }),
            };
            let answer = Full::new(Bytes::from(answer.to_string()));
            Ok::<_, Infallible>(Response::builder().status(code).body(answer).unwrap())
        }
    });
    kube::Client::new(service, "default")
}

fn scheduler(code: u16, written: &Written) -> Scheduler {
    let client = client(code, written);
    let recorder = Recorder::new(client.clone(), DEFAULT_NAME, "");
    let reporter = Reporter::new(client.clone(), recorder);
    Scheduler::new(DEFAULT_NAME.to_owned(), Binder::new(client), reporter)
}

fn amounts(all: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    all.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
}

fn node(name: &str, cpu: &str) -> Change<Node> {
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    node.status = Some(NodeStatus {
        allocatable: Some(amounts(&[("cpu", cpu), ("memory", "64Gi"), ("pods", "5000")])),
        ..NodeStatus::default()
    });
    Change::Added(Arc::new(node))
}

fn pod(name: &str, cpu: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.namespace = Some("default".to_owned());
    pod.metadata.uid = Some(format!("uid-{name}"));
    let resources = ResourceRequirements { requests: Some(amounts(&[("cpu", cpu)])), ..Default::default() };
    let container = Container { name: "c".to_owned(), resources: Some(resources), ..Container::default() };
    pod.spec = Some(PodSpec { containers: vec![container], ..PodSpec::default() });
    pod
}

fn added(pod: Pod) -> Change<Pod> {
    Change::Added(Arc::new(pod))
}

/// Decides and binds until nothing is left to be done now.
async fn settle(scheduler: &mut Scheduler, pods: usize) {
    let mut bound = 0;
    while bound < pods {
        scheduler.decide_some();
        let outcome = scheduler.binder.next().await;
        scheduler.bound(outcome);
        bound += 1;
    }
}

#[tokio::test]
async fn pods_are_bound_and_spread() {
    let written = Written::default();
    let mut scheduler = scheduler(201, &written);
    for name in ["a", "b"] {
        scheduler.node_changed(&node(name, "32"));
    }
    for at in 0..300 {
        scheduler.pod_changed(&added(pod(&format!("p{at}"), "100m")));
    }
    settle(&mut scheduler, 300).await;
    assert!(scheduler.queue.is_empty());
    let bindings = written.to("/binding");
    assert_eq!(bindings.len(), 300);
    let on_a = bindings.iter().filter(|binding| binding["target"]["name"] == "a").count();
    assert_eq!(on_a, 150, "equal nodes share equally");
    assert_eq!(bindings[0]["target"]["kind"], "Node");
    assert!(bindings[0]["metadata"]["uid"].as_str().unwrap().starts_with("uid-p"));
}

#[tokio::test]
async fn a_bound_pod_is_not_tried_again_before_the_informer_knows() {
    let written = Written::default();
    let mut scheduler = scheduler(201, &written);
    scheduler.node_changed(&node("a", "4"));
    scheduler.pod_changed(&added(pod("p", "1")));
    settle(&mut scheduler, 1).await;
    let mut touched = pod("p", "1");
    touched.metadata.labels = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let change = Change::Updated { old: Arc::new(pod("p", "1")), new: Arc::new(touched) };
    scheduler.pod_changed(&change);
    assert!(scheduler.queue.is_empty());

    let mut placed = pod("p", "1");
    placed.spec.as_mut().unwrap().node_name = Some("a".to_owned());
    scheduler.pod_changed(&added(placed));
    assert_eq!(scheduler.cluster.next_deadline(), None, "confirmed");
}

#[tokio::test]
async fn a_refused_binding_frees_the_node_and_waits() {
    let written = Written::default();
    let mut scheduler = scheduler(409, &written);
    scheduler.node_changed(&node("a", "1"));
    scheduler.pod_changed(&added(pod("p", "1")));
    settle(&mut scheduler, 1).await;
    assert_eq!(scheduler.cluster.node("a").unwrap().requested().milli_cpu, 0);
    assert!(scheduler.queue.contains("uid-p") && !scheduler.has_work());
    assert!(scheduler.queue.next_deadline().is_some(), "in its pause");
}

#[tokio::test]
async fn a_pod_without_a_node_is_tried_when_one_comes() {
    let written = Written::default();
    let mut scheduler = scheduler(201, &written);
    scheduler.node_changed(&node("small", "1"));
    scheduler.pod_changed(&added(pod("p", "2")));
    scheduler.decide_some();
    assert!(!scheduler.has_work() && scheduler.queue.contains("uid-p"));
    while written.to("/status").is_empty() {
        tokio::task::yield_now().await;
    }
    let patch = &written.to("/status")[0];
    let condition = &patch["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Unschedulable");
    assert!(
        condition["message"].as_str().unwrap().starts_with("0/1 nodes are available: 1 Insufficient cpu.")
    );

    scheduler.node_changed(&node("large", "4"));
    assert!(scheduler.has_work(), "no longer waiting for an event");
    settle(&mut scheduler, 1).await;
    assert_eq!(written.to("/binding")[0]["target"]["name"], "large");
}

#[tokio::test]
async fn only_waiting_pods_of_this_scheduler_are_taken() {
    let written = Written::default();
    let mut scheduler = scheduler(201, &written);
    scheduler.node_changed(&node("a", "4"));
    let mut other = pod("other", "1");
    other.spec.as_mut().unwrap().scheduler_name = Some("mine".to_owned());
    let mut placed = pod("placed", "1");
    placed.spec.as_mut().unwrap().node_name = Some("a".to_owned());
    let mut done = placed.clone();
    done.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    for pod in [other, placed] {
        scheduler.pod_changed(&added(pod));
    }
    assert!(scheduler.queue.is_empty());
    let requested = |scheduler: &Scheduler| scheduler.cluster.node("a").unwrap().requested().milli_cpu;
    assert_eq!(requested(&scheduler), 1000);
    let before = Arc::new({
        let mut running = done.clone();
        running.status = None;
        running
    });
    scheduler.pod_changed(&Change::Updated { old: before, new: Arc::new(done) });
    assert_eq!(requested(&scheduler), 0, "a finished pod takes nothing");
}
