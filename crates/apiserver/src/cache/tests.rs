//! Objects, events and watchers without a store.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cache::watchers::{QUEUE_EVENTS_MAX, Watchers};
use crate::registry::Stored;

fn object(name: &str, revision: i64, color: &str) -> Arc<Object> {
    let value = json!({"kind": "Secret", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "ns", "labels": {"color": color}}});
    let labels = value["metadata"]["labels"].as_object().cloned().unwrap();
    let facts = Facts { labels, fields: vec![("spec.nodeName".into(), color.to_owned())] };
    let stored = Stored::from_value(&value, 1);
    Arc::new(Object::new(Arc::from(format!("ns/{name}")), Change::Added, &stored, revision, facts))
}

#[test]
fn the_object_is_a_slice_of_the_frame_that_announced_it() {
    let object = object("a", 12, "red");
    let frame: Value = serde_json::from_slice(&object.frame(Change::Added)).unwrap();
    assert_eq!(frame["object"], object.value().unwrap());
    assert_eq!(frame["object"]["metadata"]["resourceVersion"], "12");
    assert_eq!((object.namespace(), object.name()), ("ns", "a"));
    let gone: Value = serde_json::from_slice(&object.body_at(1234)).unwrap();
    assert_eq!(gone["metadata"]["resourceVersion"], "1234");
    assert!(object.item().starts_with(b"\"metadata\":{"));
}

#[test]
fn events_follow_what_a_selector_saw_before_and_sees_now() {
    let (red, blue) = (object("a", 1, "red"), object("a", 2, "blue"));
    let is_red = |object: &Object| object.facts.labels["color"] == "red";
    let turned = Event::new(1, 2, Some(blue.clone()), Some(red.clone()));
    assert_eq!(turned.change_for(is_red), Some(Change::Deleted));
    let shown: Value = serde_json::from_slice(&turned.body(Change::Deleted)).unwrap();
    assert_eq!(
        (&shown["metadata"]["labels"]["color"], &shown["metadata"]["resourceVersion"]),
        (&json!("red"), &json!("2"))
    );
    assert_eq!(
        Event::new(2, 2, Some(red.clone()), Some(blue.clone())).change_for(is_red),
        Some(Change::Added)
    );
    assert_eq!(Event::new(3, 3, None, Some(blue)).change_for(is_red), None);
    assert_eq!(Event::new(4, 3, None, Some(red)).change_for(is_red), Some(Change::Deleted));
}

#[test]
fn only_those_concerned_hear_and_the_slow_are_unhooked() {
    let mut watchers = Watchers::default();
    let (_, mut all) = watchers.add(&Scope::All);
    let (_, mut other) = watchers.add(&Scope::Namespace("elsewhere".into()));
    let (_, mut node) = watchers.add(&Scope::Field("red".into()));
    let (id, mut one) = watchers.add(&Scope::Object("ns/a".into()));
    let event = Arc::new(Event::new(1, 2, Some(object("a", 2, "blue")), Some(object("a", 1, "red"))));
    watchers.deliver(&event);
    assert!(all.try_recv().is_ok() && node.try_recv().is_ok() && one.try_recv().is_ok());
    assert!(other.try_recv().is_err());
    watchers.remove(&Scope::Object("ns/a".into()), id);
    assert_eq!(watchers.len(), 3);
    for _ in 0..=QUEUE_EVENTS_MAX {
        watchers.deliver(&event);
    }
    assert_eq!(watchers.len(), 1, "full queues are unhooked");
}
