//! Field errors: what is wrong with which field of an object, worded and coded as
//! kube-apiserver reports it in the causes of an `Invalid` status.

use std::fmt;

use serde_json::Value;

/// The errors of one object, in the order in which its fields are looked at.
pub type FieldErrors = Vec<FieldError>;

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The field must be there.
    Required,
    /// The value breaks a rule.
    Invalid,
    /// The value is none of those allowed.
    NotSupported,
    /// The field may not be set, or not be changed, here.
    Forbidden,
    /// The value is there twice where it must be unique.
    Duplicate,
    /// The value is too long.
    TooLong,
    /// There are too many items.
    TooMany,
    /// The value names something that does not exist.
    NotFound,
    /// The value has the wrong type.
    TypeInvalid,
    /// The rule could not be evaluated.
    InternalError,
}

impl Kind {
    /// The machine-readable reason of a status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::InternalError => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::InternalError => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Where, as `spec.containers[0].name`.
    pub path: String,
    /// What sort of error.
    pub kind: Kind,
    /// The value in question, for the kinds that show it.
    pub value: Option<Value>,
    /// The explanation; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(path: impl fmt::Display, kind: Kind, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { path: path.to_string(), kind, value, detail: detail.into() }
    }

    /// A field that must be there is not.
    pub fn required(path: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(path, Kind::Required, None, detail)
    }

    /// `value` breaks a rule.
    pub fn invalid(path: impl fmt::Display, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, Kind::Invalid, Some(value.into()), detail)
    }

    /// `value` is none of `supported`.
    pub fn not_supported<S: fmt::Debug>(
        path: impl fmt::Display,
        value: impl Into<Value>,
        supported: &[S],
    ) -> Self {
        let mut detail = String::new();
        for (i, one) in supported.iter().enumerate() {
            detail.push_str(if i == 0 { "supported values: " } else { ", " });
            detail.push_str(&format!("{one:?}"));
        }
        Self::new(path, Kind::NotSupported, Some(value.into()), detail)
    }

    /// The field may not be set or changed.
    pub fn forbidden(path: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(path, Kind::Forbidden, None, detail)
    }

    /// `value` occurs twice.
    pub fn duplicate(path: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::new(path, Kind::Duplicate, Some(value.into()), "")
    }

    /// The value is longer than `max` bytes.
    pub fn too_long(path: impl fmt::Display, max: usize) -> Self {
        Self::new(path, Kind::TooLong, None, format!("may not be more than {max} bytes"))
    }

    /// There are `actual` items where `max` are allowed.
    pub fn too_many(path: impl fmt::Display, actual: usize, max: usize) -> Self {
        Self::new(path, Kind::TooMany, Some(actual.into()), format!("must have at most {max} items"))
    }

    /// `value` names something that does not exist.
    pub fn not_found(path: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::new(path, Kind::NotFound, Some(value.into()), "")
    }

    /// `value` has the wrong type.
    pub fn type_invalid(path: impl fmt::Display, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, Kind::TypeInvalid, Some(value.into()), detail)
    }

    /// The rule could not be evaluated.
    pub fn internal(path: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(path, Kind::InternalError, None, detail)
    }

    /// The error without its path: the message of a status cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        let shows_value =
            !matches!(self.kind, Kind::Required | Kind::Forbidden | Kind::TooLong | Kind::InternalError);
        if let (true, Some(value)) = (shows_value, &self.value) {
            text.push_str(": ");
            match value {
                Value::String(s) => text.push_str(&format!("{s:?}")),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.path.is_empty() { "<nil>" } else { &self.path }, self.body())
    }
}

/// A path that costs nothing until it is printed: a list of segments on the caller's stack.
#[derive(Clone, Copy, Debug)]
pub struct FieldPath<'a> {
    parent: Option<&'a FieldPath<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> FieldPath<'a> {
    /// The path of the whole object.
    pub const ROOT: FieldPath<'static> = FieldPath { parent: None, segment: Segment::Root };

    /// A path that begins with the field `name`.
    pub const fn new(name: &'a str) -> Self {
        Self { parent: None, segment: Segment::Field(name) }
    }

    /// The field `name` of this.
    pub const fn child(&'a self, name: &'a str) -> FieldPath<'a> {
        FieldPath { parent: Some(self), segment: Segment::Field(name) }
    }

    /// The item `index` of this list.
    pub const fn index(&'a self, index: usize) -> FieldPath<'a> {
        FieldPath { parent: Some(self), segment: Segment::Index(index) }
    }

    /// The entry `key` of this map.
    pub const fn key(&'a self, key: &'a str) -> FieldPath<'a> {
        FieldPath { parent: Some(self), segment: Segment::Key(key) }
    }

    /// The field names on the way, without list indexes and map keys: how Go's JSON decoder
    /// names a place.
    pub fn names(&self) -> String {
        let mut out = self.parent.map(FieldPath::names).unwrap_or_default();
        if let Segment::Field(name) = self.segment {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
        }
        out
    }

    fn is_root(&self) -> bool {
        matches!(self.segment, Segment::Root) && self.parent.is_none()
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) if self.parent.is_none_or(FieldPath::is_root) => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_in_kubernetes() {
        let spec = FieldPath::new("spec");
        let list = spec.child("containers");
        let item = list.index(2);
        assert_eq!(item.child("name").to_string(), "spec.containers[2].name");
        assert_eq!(item.child("name").names(), "spec.containers.name");
        let labels = FieldPath::ROOT;
        let meta = labels.child("metadata");
        assert_eq!(meta.key("a/b").to_string(), "metadata[a/b]");
    }

    #[test]
    fn errors_read_as_in_kubernetes() {
        let rows = [
            (FieldError::required("a", ""), "a: Required value"),
            (FieldError::required("a", "why"), "a: Required value: why"),
            (FieldError::invalid("a", "x\"y", "no"), "a: Invalid value: \"x\\\"y\": no"),
            (FieldError::invalid("a", -1, "no"), "a: Invalid value: -1: no"),
            (
                FieldError::not_supported("a", "X", &["A", "B"]),
                "a: Unsupported value: \"X\": supported values: \"A\", \"B\"",
            ),
            (FieldError::forbidden("a", "no"), "a: Forbidden: no"),
            (FieldError::duplicate("a", "x"), "a: Duplicate value: \"x\""),
            (FieldError::too_long("a", 5), "a: Too long: may not be more than 5 bytes"),
            (FieldError::too_many("a", 3, 2), "a: Too many: 3: must have at most 2 items"),
        ];
        for (error, text) in rows {
            assert_eq!(error.to_string(), text);
        }
    }
}
