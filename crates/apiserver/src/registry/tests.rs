//! The registry over the store's in-memory engine: whole calls, as the front makes them.

use bytes::Bytes;
use coracle_api::user::UserInfo;
use coracle_machinery::decode::FieldValidation;
use coracle_store::{Embedded, EmbeddedConfig};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::request::{ObjectFormat, RequestInfo};

async fn registry() -> (Registry, CancellationToken) {
    let kv = Embedded::open(EmbeddedConfig::default()).await.unwrap();
    let registry = Registry::new(kv, Config::default());
    let shutdown = CancellationToken::new();
    registry.start(shutdown.clone()).await.unwrap();
    send(&registry, Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "ns"}})).await.unwrap();
    (registry, shutdown)
}

fn call(method: Method, uri: &str, body: &Value) -> Call {
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let content_type =
        if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let info = RequestInfo::parse(&method, path, query);
    Call {
        dry_run: info.query.get("dryRun") == Some("All"),
        info,
        user: UserInfo::new("tester", [UserInfo::MASTERS]),
        format: ObjectFormat::default(),
        content_type: Some(content_type.to_owned()),
        field_manager: "tester".to_owned(),
        field_validation: FieldValidation::Warn,
        create_refusal: None,
        user_agent: "tester".to_owned(),
        body: if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) },
    }
}

async fn send(registry: &Registry, method: Method, uri: &str, body: Value) -> Result<Value, Status> {
    match registry.handle(call(method, uri, &body)).await? {
        Reply::Object { body, .. } => Ok(serde_json::from_slice(&body.into_bytes()).unwrap()),
        Reply::Watch { .. } => panic!("a watch"),
    }
}

async fn get(registry: &Registry, uri: &str) -> Result<Value, Status> {
    send(registry, Method::GET, uri, Value::Null).await
}

async fn watch(registry: &Registry, uri: &str) -> Frames {
    match registry.handle(call(Method::GET, uri, &Value::Null)).await.unwrap() {
        Reply::Watch { frames, .. } => frames,
        Reply::Object { .. } => panic!("no watch"),
    }
}

async fn event(frames: &mut Frames) -> (String, Value) {
    let frame = frames.next().await.unwrap();
    let mut event: Value = serde_json::from_slice(&frame).unwrap();
    (event["type"].as_str().unwrap().to_owned(), event["object"].take())
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"v": value}}, "data": {"k": value}})
}

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn objects_are_created_read_changed_and_deleted() {
    let (registry, _shutdown) = registry().await;
    let made = send(&registry, Method::POST, MAPS, map("a", "1")).await.unwrap();
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["resourceVersion"].is_string());
    assert_eq!(get(&registry, &format!("{MAPS}/a")).await.unwrap(), made);
    assert_eq!(send(&registry, Method::POST, MAPS, map("a", "1")).await.unwrap_err().reason, "AlreadyExists");

    let patch = json!({"data": {"k": "2"}});
    let patched = send(&registry, Method::PATCH, &format!("{MAPS}/a"), patch.clone()).await.unwrap();
    assert_eq!(patched["data"]["k"], "2");
    let again = send(&registry, Method::PATCH, &format!("{MAPS}/a"), patch).await.unwrap();
    assert_eq!(again, patched, "a write that changes nothing keeps the version");

    let mut stale = map("a", "3");
    stale["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let refused = send(&registry, Method::PUT, &format!("{MAPS}/a"), stale).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));

    let gone = send(&registry, Method::DELETE, &format!("{MAPS}/a"), Value::Null).await.unwrap();
    assert_eq!((&gone["status"], &gone["details"]["kind"]), (&json!("Success"), &json!("configmaps")));
    assert_eq!(get(&registry, &format!("{MAPS}/a")).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let (registry, _shutdown) = registry().await;
    send(&registry, Method::POST, &format!("{MAPS}?dryRun=All"), map("a", "1")).await.unwrap();
    assert_eq!(get(&registry, &format!("{MAPS}/a")).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn namespaces_must_exist_and_not_be_going() {
    let (registry, _shutdown) = registry().await;
    let missing =
        send(&registry, Method::POST, "/api/v1/namespaces/none/configmaps", map("a", "1")).await.unwrap_err();
    assert_eq!(missing.message, "namespaces \"none\" not found");
    let ns = send(&registry, Method::DELETE, "/api/v1/namespaces/ns", Value::Null).await.unwrap();
    assert_eq!(ns["status"]["phase"], "Terminating");
    // The refusal reads the namespace through the cache, which the deletion has reached by
    // the time a consistent read has been answered.
    get(&registry, "/api/v1/namespaces/ns").await.unwrap();
    let refused = send(&registry, Method::POST, MAPS, map("a", "1")).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.details.unwrap().causes[0].reason.as_str()),
        (403, "NamespaceTerminating")
    );
    let finalized = json!({"metadata": {"name": "ns"}, "spec": {"finalizers": []}});
    send(&registry, Method::PUT, "/api/v1/namespaces/ns/finalize", finalized).await.unwrap();
    assert_eq!(get(&registry, "/api/v1/namespaces/ns").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let (registry, _shutdown) = registry().await;
    let mut held = map("a", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    send(&registry, Method::POST, MAPS, held).await.unwrap();
    let marked = send(&registry, Method::DELETE, &format!("{MAPS}/a"), Value::Null).await.unwrap();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let release = json!({"metadata": {"finalizers": null}});
    send(&registry, Method::PATCH, &format!("{MAPS}/a"), release).await.unwrap();
    assert_eq!(get(&registry, &format!("{MAPS}/a")).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn lists_are_paged_at_one_state_and_select() {
    let (registry, _shutdown) = registry().await;
    for name in ["c", "a", "b"] {
        send(&registry, Method::POST, MAPS, map(name, name)).await.unwrap();
    }
    let first = get(&registry, &format!("{MAPS}?limit=2")).await.unwrap();
    assert_eq!(
        (&first["items"][1]["metadata"]["name"], &first["metadata"]["remainingItemCount"]),
        (&json!("b"), &json!(1))
    );
    assert!(first["items"][0].get("kind").is_none(), "items of built-in lists have no kind");
    send(&registry, Method::POST, MAPS, map("d", "d")).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = get(&registry, &format!("{MAPS}?limit=2&continue={token}")).await.unwrap();
    assert_eq!(second["items"].as_array().unwrap().len(), 1, "what came later is not on a later page");
    assert!(second["metadata"].get("continue").is_none());

    let chosen = get(&registry, &format!("{MAPS}?labelSelector=v+in+(a,d)")).await.unwrap();
    assert_eq!(chosen["items"].as_array().unwrap().len(), 2);
    let unknown = get(&registry, &format!("{MAPS}?fieldSelector=data.k%3Dv")).await.unwrap_err();
    assert!(unknown.message.starts_with("\"data.k\" is not a known field selector"));
}

#[tokio::test]
async fn a_watch_sees_selector_transitions_in_order() {
    let (registry, _shutdown) = registry().await;
    send(&registry, Method::POST, MAPS, map("a", "blue")).await.unwrap();
    let version =
        get(&registry, MAPS).await.unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut frames =
        watch(&registry, &format!("{MAPS}?watch=true&resourceVersion={version}&labelSelector=v%3Dred")).await;
    for value in ["red", "red2", "red"] {
        let patch = json!({"metadata": {"labels": {"v": value}}});
        send(&registry, Method::PATCH, &format!("{MAPS}/a"), patch).await.unwrap();
    }
    send(&registry, Method::DELETE, &format!("{MAPS}/a"), Value::Null).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (kind, object) = event(&mut frames).await;
        assert_eq!(object["metadata"]["labels"]["v"], "red");
        seen.push(kind);
    }
    assert_eq!(seen, ["ADDED", "DELETED", "ADDED", "DELETED"]);
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let (registry, _shutdown) = registry().await;
    send(&registry, Method::POST, MAPS, map("a", "1")).await.unwrap();
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut frames = watch(&registry, &format!("{MAPS}?{query}")).await;
    assert_eq!(event(&mut frames).await.0, "ADDED");
    let (kind, bookmark) = event(&mut frames).await;
    assert_eq!(
        (kind.as_str(), &bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"]),
        ("BOOKMARK", &json!("true"))
    );
}

#[tokio::test]
async fn a_past_that_is_gone_is_an_error_event() {
    let (registry, _shutdown) = registry().await;
    get(&registry, MAPS).await.unwrap();
    let mut frames = watch(&registry, &format!("{MAPS}?watch=true&resourceVersion=1")).await;
    let (kind, status) = event(&mut frames).await;
    assert_eq!((kind.as_str(), &status["reason"]), ("ERROR", &json!("Expired")));
    assert!(frames.next().await.is_none());
}

#[tokio::test]
async fn services_get_addresses_that_deletion_frees() {
    let (registry, _shutdown) = registry().await;
    let uri = "/api/v1/namespaces/ns/services";
    let fixed = |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.0.0.77", "ports": [{"port": 80}]}});
    send(&registry, Method::POST, uri, fixed("one")).await.unwrap();
    let refused = send(&registry, Method::POST, uri, fixed("two")).await.unwrap_err();
    assert_eq!(refused.details.unwrap().causes[0].field, "spec.clusterIPs");
    send(&registry, Method::DELETE, &format!("{uri}/one"), Value::Null).await.unwrap();
    send(&registry, Method::POST, uri, fixed("two")).await.unwrap();
}

#[tokio::test]
async fn a_custom_resource_is_served_as_soon_as_it_is_created() {
    let (registry, _shutdown) = registry().await;
    let definition = json!({"metadata": {"name": "lamps.gold.test"}, "spec": {"group": "gold.test", "scope": "Namespaced",
        "names": {"plural": "lamps", "kind": "Lamp"}, "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"watts": {"type": "integer"}}}}}}}]}});
    let uri = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    send(&registry, Method::POST, uri, definition).await.unwrap();
    let lamps = "/apis/gold.test/v1/namespaces/ns/lamps";
    assert_eq!(get(&registry, lamps).await.unwrap()["kind"], "LampList");
    let lamp = json!({"metadata": {"name": "desk"}, "spec": {"watts": 5}});
    let made = send(&registry, Method::POST, lamps, lamp.clone()).await.unwrap();
    assert_eq!((&made["kind"], &made["metadata"]["generation"]), (&json!("Lamp"), &json!(1)));
    let unconditional = send(&registry, Method::PUT, &format!("{lamps}/desk"), lamp).await.unwrap_err();
    assert_eq!(unconditional.code, 422);
    let more = send(&registry, Method::PATCH, &format!("{lamps}/desk"), json!({"spec": {"watts": 6}}))
        .await
        .unwrap();
    assert_eq!(more["metadata"]["generation"], 2);
}
