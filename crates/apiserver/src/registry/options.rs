//! The options of list, watch and delete, judged as kube-apiserver judges them.

use coracle_api::field::FieldError;
use coracle_api::status::Status;
use serde_json::Value;

use crate::registry::failure;
use crate::registry::paging::Continue;
use crate::request::{Call, ListOptions};

/// Which state a list must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// The newest that anybody may have seen.
    Newest,
    /// Any that is at hand.
    Any,
    /// That of this revision or newer.
    NotOlderThan(i64),
    /// That of this revision.
    Exact(i64),
}

/// Reads a resourceVersion.
///
/// # Errors
/// A 500 without reason when it is no number, as kube-apiserver has it.
pub(super) fn parse_version(text: &str) -> Result<i64, Status> {
    match text.parse::<u64>() {
        Ok(version) => Ok(i64::try_from(version).unwrap_or(i64::MAX)),
        Err(_) => Err(failure::without_reason(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))),
    }
}

fn invalid(kind: &str, errors: Vec<FieldError>) -> Status {
    Status::invalid("meta.k8s.io", kind, "", errors)
}

/// Checks that the list options fit together.
///
/// # Errors
/// 422 naming the options that do not.
pub(super) fn check_list(options: &ListOptions, watch: bool) -> Result<(), Status> {
    let mut errors = Vec::new();
    let matching = options.resource_version_match.as_deref();
    if options.send_initial_events.is_some() {
        check_initial_events(options, watch, &mut errors);
    } else if let Some(matching) = matching {
        if watch {
            errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        } else {
            check_match(options, matching, &mut errors);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid("ListOptions", errors)) }
}

fn check_match(options: &ListOptions, matching: &str, errors: &mut Vec<FieldError>) {
    let version = options.resource_version.as_deref().unwrap_or_default();
    if version.is_empty() {
        errors.push(FieldError::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if options.continue_token.is_some() {
        errors.push(FieldError::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    match matching {
        "Exact" if version == "0" => errors.push(FieldError::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
        )),
        "Exact" | "NotOlderThan" => {}
        other => {
            errors.push(FieldError::not_supported("resourceVersionMatch", other, &["Exact", "NotOlderThan"]))
        }
    }
}

fn check_initial_events(options: &ListOptions, watch: bool, errors: &mut Vec<FieldError>) {
    if !watch {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        return;
    }
    match options.resource_version_match.as_deref() {
        Some("NotOlderThan") => {}
        None => errors.push(FieldError::forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        Some(other) => {
            errors.push(FieldError::not_supported("resourceVersionMatch", other, &["NotOlderThan"]))
        }
    }
    if options.continue_token.is_some() {
        errors.push(FieldError::forbidden(
            "continue",
            "continue is forbidden when sendInitialEvents is provided",
        ));
    }
}

/// Which state a list is asked for, and from where it goes on.
///
/// # Errors
/// 400 for a token that is none, or one beside a resourceVersion; 500 without reason for a
/// resourceVersion that is none.
pub(super) fn list_at(options: &ListOptions) -> Result<(At, Option<Continue>), Status> {
    let version = options.resource_version.as_deref().unwrap_or_default();
    if let Some(token) = &options.continue_token {
        let page = Continue::decode(token)?;
        if !version.is_empty() && version != "0" {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let at = page.revision.map_or(At::Newest, At::Exact);
        return Ok((at, Some(page)));
    }
    if version.is_empty() {
        return Ok((At::Newest, None));
    }
    let at = match (parse_version(version)?, options.resource_version_match.as_deref()) {
        (0, _) => At::Any,
        (version, Some("Exact")) => At::Exact(version),
        (version, None) if options.limit > 0 => At::Exact(version),
        (version, _) => At::NotOlderThan(version),
    };
    Ok((at, None))
}

/// What happens to the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagation {
    /// They stay, without owner.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// The options of a deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeleteOptions {
    /// Seconds that the object gets to finish.
    pub(super) grace_period_s: Option<i64>,
    /// What happens to dependents; `None`: the kind's default.
    pub(super) propagation: Option<Propagation>,
    /// The uid that the object must have.
    pub(super) uid: Option<String>,
    /// The resourceVersion that the object must have.
    pub(super) resource_version: Option<String>,
    /// Only pretend.
    pub(super) dry_run: bool,
}

impl DeleteOptions {
    /// The options of a call: those in the body when there is one, else those in the query.
    ///
    /// # Errors
    /// 400 for what is no `DeleteOptions`, 422 for values that are not allowed.
    pub(super) fn of_call(call: &Call) -> Result<Self, Status> {
        if call.body.is_empty() {
            return Self::of_query(call);
        }
        let body: Value = match call.content_type.as_deref() {
            Some("application/yaml") => coracle_machinery::decode::yaml(&call.body)?,
            _ => serde_json::from_slice(&call.body)
                .map_err(|e| Status::bad_request(format!("couldn't decode the delete options: {e}")))?,
        };
        Self::of_body(&body)
    }

    fn of_query(call: &Call) -> Result<Self, Status> {
        let query = &call.info.query;
        let orphan = query.flag("orphanDependents");
        Self {
            grace_period_s: query.integer("gracePeriodSeconds")?,
            propagation: None,
            uid: query.non_empty("preconditions.uid").map(str::to_owned),
            resource_version: query.non_empty("preconditions.resourceVersion").map(str::to_owned),
            dry_run: call.dry_run,
        }
        .with_propagation(query.non_empty("propagationPolicy"), orphan)
    }

    /// The options in a `DeleteOptions` object (of a delete's body or an Eviction).
    ///
    /// # Errors
    /// 400 for what is no `DeleteOptions`, 422 for values that are not allowed.
    pub(super) fn of_body(body: &Value) -> Result<Self, Status> {
        let kind = coracle_api::meta::kind(body);
        if !body.is_object() || !matches!(kind, "" | "DeleteOptions") {
            return Err(Status::bad_request(format!(
                "decoded object cannot be converted to DeleteOptions: kind is {kind:?}"
            )));
        }
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
        };
        let conditions = body.get("preconditions");
        let grace_period_s = match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => None,
            Some(value) => Some(value.as_i64().ok_or_else(|| {
                Status::bad_request("json: cannot unmarshal gracePeriodSeconds into Go struct field DeleteOptions.gracePeriodSeconds of type int64")
            })?),
        };
        Self {
            grace_period_s,
            propagation: None,
            uid: text(conditions.and_then(|c| c.get("uid"))),
            resource_version: text(conditions.and_then(|c| c.get("resourceVersion"))),
            dry_run: dry_run(body.get("dryRun"))?,
        }
        .with_propagation(
            body.get("propagationPolicy").and_then(Value::as_str),
            body.get("orphanDependents").and_then(Value::as_bool),
        )
    }

    fn with_propagation(mut self, policy: Option<&str>, orphan: Option<bool>) -> Result<Self, Status> {
        if policy.is_some() && orphan.is_some() {
            return Err(invalid(
                "DeleteOptions",
                vec![FieldError::invalid(
                    "propagationPolicy",
                    policy.unwrap_or_default(),
                    "orphanDependents and deletionPropagation cannot be both set",
                )],
            ));
        }
        self.propagation = match (policy, orphan) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some(other), _) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                let error = FieldError::not_supported("propagationPolicy", other, &supported);
                return Err(invalid("DeleteOptions", vec![error]));
            }
            (None, None) => None,
        };
        Ok(self)
    }
}

fn dry_run(value: Option<&Value>) -> Result<bool, Status> {
    let Some(list) = value.and_then(Value::as_array) else { return Ok(false) };
    for one in list {
        if one != "All" {
            let shown = one.as_str().map_or_else(|| one.to_string(), str::to_owned);
            let error = FieldError::not_supported("dryRun", shown, &["All"]);
            return Err(invalid("DeleteOptions", vec![error]));
        }
    }
    Ok(!list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(version: &str, matching: &str, limit: i64) -> ListOptions {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ListOptions {
            resource_version: some(version),
            resource_version_match: some(matching),
            limit,
            ..ListOptions::default()
        }
    }

    #[test]
    fn the_state_asked_for_follows_version_match_and_limit() {
        let rows = [
            (options("", "", 0), At::Newest),
            (options("0", "", 0), At::Any),
            (options("5", "", 0), At::NotOlderThan(5)),
            (options("5", "", 2), At::Exact(5)),
            (options("5", "NotOlderThan", 2), At::NotOlderThan(5)),
            (options("5", "Exact", 0), At::Exact(5)),
        ];
        for (options, want) in rows {
            assert!(check_list(&options, false).is_ok());
            assert_eq!(list_at(&options).unwrap().0, want, "{options:?}");
        }
        assert_eq!(list_at(&options("1x", "", 0)).unwrap_err().code, 500);
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(check_list(&options("", "Exact", 0), false).unwrap_err().code, 422);
        assert_eq!(check_list(&options("0", "Exact", 0), false).unwrap_err().code, 422);
        assert_eq!(check_list(&options("5", "Maybe", 0), false).unwrap_err().code, 422);
        assert_eq!(check_list(&options("5", "NotOlderThan", 0), true).unwrap_err().code, 422);
        let mut events = options("", "NotOlderThan", 0);
        events.send_initial_events = Some(true);
        assert!(check_list(&events, true).is_ok());
        assert_eq!(check_list(&events, false).unwrap_err().code, 422);
    }

    #[test]
    fn delete_options_are_read_from_a_body() {
        let read = DeleteOptions::of_body(&json!({"kind": "DeleteOptions", "gracePeriodSeconds": 5,
            "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}, "dryRun": ["All"]}))
        .unwrap();
        assert_eq!(read.grace_period_s, Some(5));
        assert_eq!(read.propagation, Some(Propagation::Foreground));
        assert_eq!((read.uid.as_deref(), read.dry_run), (Some("u"), true));
        assert_eq!(DeleteOptions::of_body(&json!({"propagationPolicy": "Sideways"})).unwrap_err().code, 422);
        assert_eq!(DeleteOptions::of_body(&json!({"kind": "Pod"})).unwrap_err().code, 400);
        assert_eq!(DeleteOptions::of_body(&json!({"dryRun": ["Some"]})).unwrap_err().code, 422);
    }
}
