//! Decoding: bytes to an object that fits its schema, as kube-apiserver's decoder does.
//!
//! A value of the wrong type is refused. Unknown fields are removed and, with duplicates,
//! refused (`Strict`), told as warnings (`Warn`) or passed over (`Ignore`). `null` means "not
//! given", and what Go would not write (empty lists and maps, zero values of plain fields) is
//! left out, so that stored objects have one form. Quantities become canonical and times are
//! checked.

mod fit;
mod parse;

use coracle_api::schema::Schema;
use coracle_api::{FieldError, Gvk, Status, meta};
use serde_json::{Map, Value};

/// The form of a request body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
}

/// What becomes of unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and told as warnings.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter `fieldValidation`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, pruned.
    pub value: Value,
    /// What the client should be told in `Warning` headers.
    pub warnings: Vec<String>,
}

/// Decodes an object. The schema's definition names the kind in messages.
pub fn object(
    bytes: &[u8],
    format: Format,
    schema: &Schema,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let expected = schema.short_definition();
    let parsed = parse_bytes(bytes, format).map_err(|why| unrecognized(expected, &why, bytes))?;
    let mut value = match parsed.value {
        Value::Null => Value::Object(Map::new()),
        value @ Value::Object(_) => value,
        other => {
            let why = format!("json: cannot unmarshal {} into Go value", fit::go_name(&other));
            return Err(unrecognized(expected, &why, bytes));
        }
    };
    let refuse = |value: &Value, why: &str| cannot_handle(value, schema, why);
    let unknown = fit::fit(&mut value, schema).map_err(|why| refuse(&value, &why))?;
    let duplicates = parsed.duplicates.iter().map(|path| format!("duplicate field {path:?}"));
    let fitted: Vec<String> = duplicates.chain(unknown).collect();
    match validation {
        FieldValidation::Ignore => Ok(Decoded { value, warnings: Vec::new() }),
        FieldValidation::Strict if !fitted.is_empty() => {
            Err(refuse(&value, &format!("strict decoding error: {}", fitted.join(", "))))
        }
        FieldValidation::Warn | FieldValidation::Strict => Ok(Decoded { value, warnings: fitted }),
    }
}

/// Fits an object that a patch made to its schema: a 422 on field `patch` where a request body
/// would be a 400. Answers the warnings.
pub fn patched(
    value: &mut Value,
    schema: &Schema,
    validation: FieldValidation,
    gvk: &Gvk,
    name: &str,
) -> Result<Vec<String>, Status> {
    let refuse = |why: String| {
        Status::invalid(&gvk.group, &gvk.kind, name, vec![FieldError::invalid("patch", "", why)])
    };
    let fitted = fit::fit(value, schema).map_err(refuse)?;
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Strict if !fitted.is_empty() => {
            Err(refuse(format!("strict decoding error: {}", fitted.join(", "))))
        }
        FieldValidation::Warn | FieldValidation::Strict => Ok(fitted),
    }
}

/// Removes what the schema does not know from a stored object, passing over what does not fit.
pub fn prune(value: &mut Value, schema: &Schema) {
    // What was stored fitted once; if a CRD changed since, the rest is served as it is.
    let _ = fit::fit(value, schema);
}

/// Parses JSON without a schema. Duplicate fields: the last counts.
pub fn json(bytes: &[u8]) -> Result<Value, Status> {
    parse::json(bytes).map(|p| p.value).map_err(Status::bad_request)
}

/// Parses one YAML document without a schema.
pub fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    parse::yaml(bytes).map(|p| p.value).map_err(Status::bad_request)
}

/// Parses one YAML document (JSON is YAML) without a schema; answers the paths of the fields that
/// were there more than once, too.
///
/// # Errors
/// Why it does not parse, in the words of Go's YAML library where that is possible.
pub fn yaml_document(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok((Value::Null, Vec::new()));
    }
    parse::yaml(bytes).map(|parsed| (parsed.value, parsed.duplicates))
}

/// Checks that a body is of the kind that the path serves; an absent `apiVersion` or `kind` is
/// filled in.
pub fn check_type(value: &mut Value, gvk: &Gvk) -> Result<(), Status> {
    let wanted = gvk.api_version();
    let (api_version, kind) = (meta::api_version(value), meta::kind(value));
    if (api_version == wanted || api_version.is_empty()) && (kind == gvk.kind || kind.is_empty()) {
        meta::set_type(value, &wanted, &gvk.kind);
        return Ok(());
    }
    if kind == gvk.kind || kind.is_empty() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({wanted})"
        )));
    }
    let version = api_version.rsplit('/').next().unwrap_or_default();
    Err(Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {}: unknown conversion",
        gvk.kind
    )))
}

fn parse_bytes(bytes: &[u8], format: Format) -> Result<parse::Parsed, String> {
    match format {
        Format::Json => parse::json(bytes),
        Format::Yaml => parse::yaml(bytes),
    }
}

/// The start of a body, for messages.
fn excerpt(bytes: &[u8]) -> String {
    const SHOWN_BYTES: usize = 30;
    if bytes.is_empty() {
        return "<empty>".to_owned();
    }
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]);
    if bytes.len() > SHOWN_BYTES { format!("{start} ...") } else { start.into_owned() }
}

fn unrecognized(expected: &str, why: &str, bytes: &[u8]) -> Status {
    let of = if expected.is_empty() { String::new() } else { format!(" (must be of type {expected})") };
    Status::bad_request(format!(
        "the object provided is unrecognized{of}: couldn't get version/kind; json parse error: {why} ({})",
        excerpt(bytes)
    ))
}

fn cannot_handle(value: &Value, schema: &Schema, why: &str) -> Status {
    let mut parts = schema.definition.rsplit('.');
    let (expected, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let kind = match meta::kind(value) {
        "" => expected,
        kind => kind,
    };
    let version = match meta::api_version(value).rsplit('/').next() {
        None | Some("") => version,
        Some(version) => version,
    };
    let expected = if expected.is_empty() { kind } else { expected };
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {expected}: {why}"))
}

#[cfg(test)]
mod tests;
