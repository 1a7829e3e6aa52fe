//! Tables of selectors, what they match and how they are refused.

use super::*;
use serde_json::json;

fn labels(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn label_selectors_match_as_in_kubernetes() {
    let rows = [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app=db", false),
        ("app!=db", true),
        ("app != web", false),
        ("missing!=x", true),
        ("missing=x", false),
        ("app in (web, db)", true),
        ("app in (db)", false),
        ("app notin (db,x)", true),
        ("missing notin (db)", true),
        ("app", true),
        ("!app", false),
        ("!missing", true),
        ("n>4", true),
        ("n<5", false),
        ("app>4", false),
        ("app=web,n=5", true),
        ("app=web,n=6", false),
        ("empty=", true),
        ("empty in (,x)", true),
        ("example.com/a=b", true),
        ("x in (in)", true),
        ("app=web , n", true),
    ];
    let labels = labels(json!({"app": "web", "n": "5", "empty": "", "example.com/a": "b", "x": "in"}));
    for (text, expected) in rows {
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.matches(&labels), expected, "{text}");
        assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector, "{text}");
    }
}

#[test]
fn bad_label_selectors_say_why() {
    let rows = [
        ("app in web", "unable to parse requirement: found 'web' expected: '('"),
        ("=web", "found '=', expected: !, identifier, or 'end of string'"),
        ("app=web=again", "found '=', expected: ',' or 'end of string'"),
    ];
    for (text, message) in rows {
        assert_eq!(LabelSelector::parse(text).unwrap_err(), message);
    }
    for text in
        ["-bad-key-=x", "app=-x-", "app in (web", "app===web", "a,", "a,,b", "!", "a b", "n>x", "a/b/c"]
    {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
    assert!(LabelSelector::parse(&"a".repeat(TEXT_BYTES_MAX + 1)).is_err());
}

#[test]
fn selector_objects() {
    let selector = LabelSelector::from_json(&json!({"matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}, {"key": "e", "operator": "Exists"}]}))
    .unwrap();
    assert_eq!(selector.to_string(), "a=b,c!=d,e");
    assert!(selector.matches(&labels(json!({"a": "b", "e": ""}))));
    assert!(LabelSelector::from_json(&json!({})).unwrap().is_everything());
    assert!(!LabelSelector::from_json(&Value::Null).unwrap().matches(&Map::new()));
    let errors = LabelSelector::from_json(
        &json!({"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "a", "operator": "?"}]}),
    )
    .unwrap_err();
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0].path, "matchExpressions[0].values");
}

#[test]
fn field_selectors() {
    let selector = FieldSelector::parse(r"metadata.name=a,spec.nodeName!=b\,c,x==y").unwrap();
    assert_eq!(selector.terms[1].value, "b,c");
    assert_eq!(selector.exact("metadata.name"), Some("a"));
    assert_eq!(selector.exact("spec.nodeName"), None);
    let get = |field: &str| match field {
        "metadata.name" => Some("a"),
        "x" => Some("y"),
        _ => None,
    };
    assert!(selector.matches_with(get));
    assert!(selector.check(&["metadata.name", "spec.nodeName", "x"]).is_ok());
    assert_eq!(selector.check(&["metadata.name"]).unwrap_err(), "field label not supported: spec.nodeName");
    assert!(FieldSelector::parse("").unwrap().is_everything());
    for text in ["metadata.name", "metadata.name in (a,b)", "a=b=c", r"a=\x"] {
        assert!(FieldSelector::parse(text).is_err(), "{text}");
    }
}
