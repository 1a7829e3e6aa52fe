//! Label and field selectors: the query-string languages of lists and watches, and the
//! `LabelSelector` objects in specs.

use std::fmt;

use serde_json::{Map, Value};

use crate::field::{FieldError, FieldErrors, FieldPath};
use crate::names;

/// The longest selector text that is read, in bytes; longer ones are refused.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// How a label must relate to the values of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there and is one of the values.
    In,
    /// The label is absent or none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer greater than the value.
    GreaterThan,
    /// The label is an integer less than the value.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The condition.
    pub operator: Operator,
    /// What the label is compared with.
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether a label (or its absence) meets the condition.
    pub fn matches(&self, label: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|v| number(v));
        match (self.operator, label) {
            (Operator::In, Some(label)) => self.values.iter().any(|v| v == label),
            (Operator::NotIn, Some(label)) => self.values.iter().all(|v| v != label),
            (Operator::Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (Operator::NotIn, None) => true,
            (Operator::GreaterThan, Some(label)) => {
                matches!((number(label), bound()), (Some(a), Some(b)) if a > b)
            }
            (Operator::LessThan, Some(label)) => {
                matches!((number(label), bound()), (Some(a), Some(b)) if a < b)
            }
            (Operator::In | Operator::GreaterThan | Operator::LessThan, None) => false,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, first) = (&self.key, self.values.first().map(String::as_str).unwrap_or_default());
        match (self.operator, self.values.len()) {
            (Operator::In, 1) => write!(f, "{key}={first}"),
            (Operator::In, _) => write!(f, "{key} in ({})", self.values.join(",")),
            (Operator::NotIn, 1) => write!(f, "{key}!={first}"),
            (Operator::NotIn, _) => write!(f, "{key} notin ({})", self.values.join(",")),
            (Operator::Exists, _) => f.write_str(key),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::GreaterThan, _) => write!(f, "{key}>{first}"),
            (Operator::LessThan, _) => write!(f, "{key}<{first}"),
        }
    }
}

/// Conditions on labels that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// The conditions; none of them means that everything matches.
    pub requirements: Vec<Requirement>,
    /// Whether nothing matches, whatever the conditions (an absent `LabelSelector` object).
    pub nothing: bool,
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads the form `a=b,c in (d,e),!f`. The error is the message of a 400.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("selector is longer than {TEXT_BYTES_MAX} bytes"));
        }
        let requirements = Parser { tokens: tokens(text), at: 0 }.selector()?;
        Ok(Self { requirements, nothing: false })
    }

    /// Reads a `LabelSelector` object; `Null` matches nothing, `{}` everything.
    pub fn from_json(selector: &Value) -> Result<Self, FieldErrors> {
        let Some(object) = selector.as_object() else { return Ok(Self::nothing()) };
        let mut errors = Vec::new();
        let mut requirements = Vec::new();
        if let Some(labels) = object.get("matchLabels").and_then(Value::as_object) {
            requirements.extend(equalities(labels));
        }
        let list = FieldPath::new("matchExpressions");
        for (i, item) in
            object.get("matchExpressions").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            match expression(item, &list.index(i)) {
                Ok(requirement) => requirements.push(requirement),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self { requirements, nothing: false }) } else { Err(errors) }
    }

    /// Labels that must all be there, as a ReplicationController's or Service's selector.
    pub fn from_labels(labels: &Map<String, Value>) -> Self {
        Self { requirements: equalities(labels).collect(), nothing: false }
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether an object with these labels matches.
    pub fn matches(&self, labels: &Map<String, Value>) -> bool {
        self.matches_with(|key| labels.get(key).and_then(Value::as_str))
    }

    /// Whether `object` (a whole one) matches.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = crate::meta::labels(object);
        self.matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    }

    /// Whether labels that `get` looks up match.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

fn equalities(labels: &Map<String, Value>) -> impl Iterator<Item = Requirement> + '_ {
    labels.iter().map(|(key, value)| Requirement {
        key: key.clone(),
        operator: Operator::In,
        values: vec![value.as_str().unwrap_or_default().to_owned()],
    })
}

fn expression(item: &Value, path: &FieldPath<'_>) -> Result<Requirement, FieldError> {
    let operator = match crate::meta::text(item, "operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            return Err(FieldError::invalid(path.child("operator"), other, "not a valid selector operator"));
        }
    };
    let values: Vec<String> = item
        .get("values")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect();
    match (operator, values.is_empty()) {
        (Operator::In | Operator::NotIn, true) => Err(FieldError::required(
            path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        (Operator::Exists | Operator::DoesNotExist, false) => Err(FieldError::forbidden(
            path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        _ => Ok(Requirement { key: crate::meta::text(item, "key").to_owned(), operator, values }),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Comma,
    Open,
    Close,
    End,
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Not => "!",
            Token::Equals => "=",
            Token::DoubleEquals => "==",
            Token::NotEquals => "!=",
            Token::Greater => ">",
            Token::Less => "<",
            Token::Comma => ",",
            Token::Open => "(",
            Token::Close => ")",
            Token::End => "",
        }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let doubled = bytes.get(at + 1) == Some(&b'=');
        let token = match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'!' if doubled => Token::NotEquals,
            b'!' => Token::Not,
            b'=' if doubled => Token::DoubleEquals,
            b'=' => Token::Equals,
            b'>' => Token::Greater,
            b'<' => Token::Less,
            b',' => Token::Comma,
            b'(' => Token::Open,
            b')' => Token::Close,
            _ => {
                let rest = &text[at..];
                let end = rest
                    .find([' ', '\t', '\r', '\n', '!', '=', '>', '<', ',', '(', ')'])
                    .unwrap_or(rest.len());
                Token::Word(&rest[..end])
            }
        };
        at += token.text().len();
        out.push(token);
    }
    out
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Not => out.push(self.requirement()?),
                Token::End => return Ok(out),
                other => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.text()
                    ));
                }
            }
            match self.next() {
                Token::End => return Ok(out),
                Token::Comma => match self.peek() {
                    Token::Word(_) | Token::Not => {}
                    other => return Err(format!("found '{}', expected: identifier after ','", other.text())),
                },
                other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let refuse = |why: String| format!("unable to parse requirement: {why}");
        let negated = self.peek() == Token::Not;
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Token::Word(word) => word.to_owned(),
            other => return Err(refuse(format!("found '{}', expected: identifier", other.text()))),
        };
        if let Some(why) = names::qualified_name(&key).into_iter().next() {
            return Err(refuse(FieldError::invalid("", key, why).to_string()));
        }
        let is_bare = matches!(self.peek(), Token::End | Token::Comma);
        if negated || is_bare {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Ok(Requirement { key, operator, values: Vec::new() });
        }
        let (operator, values) = match self.next() {
            Token::Equals | Token::DoubleEquals => (Operator::In, vec![self.value().map_err(refuse)?]),
            Token::NotEquals => (Operator::NotIn, vec![self.value().map_err(refuse)?]),
            Token::Greater => (Operator::GreaterThan, vec![self.value().map_err(refuse)?]),
            Token::Less => (Operator::LessThan, vec![self.value().map_err(refuse)?]),
            Token::Word("in") => (Operator::In, self.values().map_err(refuse)?),
            Token::Word("notin") => (Operator::NotIn, self.values().map_err(refuse)?),
            other => {
                let expected = "expected: in, notin, =, ==, !=, gt, lt";
                return Err(refuse(format!("found '{}', {expected}", other.text())));
            }
        };
        check_values(&key, operator, &values).map_err(refuse)?;
        Ok(Requirement { key, operator, values })
    }

    /// A single value; nothing at all is the empty string.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::Word(word) => {
                self.at += 1;
                Ok(word.to_owned())
            }
            Token::End | Token::Comma => Ok(String::new()),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Open => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::Word(word) => {
                    self.at += 1;
                    out.push(word.to_owned());
                }
                Token::Comma | Token::Close => out.push(String::new()),
                other => return Err(format!("found '{}', expected: ',', or identifier", other.text())),
            }
            match self.next() {
                Token::Comma => {}
                Token::Close => {
                    out.sort();
                    out.dedup();
                    return Ok(out);
                }
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
    }
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), String> {
    for (i, value) in values.iter().enumerate() {
        let path = format!("values[{i}][{key}]");
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
            let why = "for 'Gt', 'Lt' operators, the value must be an integer";
            return Err(FieldError::invalid(path, value.as_str(), why).to_string());
        }
        if let Some(why) = names::label_value(value).into_iter().next() {
            return Err(FieldError::invalid(path, value.as_str(), why).to_string());
        }
    }
    Ok(())
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field, as `metadata.name`.
    pub field: String,
    /// What it must be, or must not be.
    pub value: String,
    /// Whether it must not be `value`.
    pub negated: bool,
}

/// Terms on fields that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The terms; none of them means that everything matches.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the form `a=b,c!=d`. The error is the message of a 400.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("selector is longer than {TEXT_BYTES_MAX} bytes"));
        }
        let mut terms = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            terms.push(
                field_term(term)
                    .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?,
            );
        }
        Ok(Self { terms })
    }

    /// Refuses terms on fields other than `known`. The error is the message of a 400.
    pub fn check(&self, known: &[&str]) -> Result<(), String> {
        match self.terms.iter().find(|t| !known.contains(&t.field.as_str())) {
            None => Ok(()),
            Some(term) => Err(format!("field label not supported: {}", term.field)),
        }
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether fields that `get` looks up match; a field that is not there is the empty string.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|t| (get(&t.field).unwrap_or_default() == t.value) != t.negated)
    }

    /// The value that `field` must have, if a term says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| !t.negated && t.field == field).map(|t| t.value.as_str())
    }
}

/// Splits at commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn field_term(term: &str) -> Option<FieldTerm> {
    let mut escaped = false;
    for (i, c) in term.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        let rest = &term[i..];
        let (negated, skip) = match c {
            '\\' => {
                escaped = true;
                continue;
            }
            '!' if rest.starts_with("!=") => (true, 2),
            '=' if rest.starts_with("==") => (false, 2),
            '=' => (false, 1),
            _ => continue,
        };
        return Some(FieldTerm { field: term[..i].to_owned(), value: unescape(&rest[skip..])?, negated });
    }
    None
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('\\' | ',' | '=') => out.push(c),
                _ => return None,
            },
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;
