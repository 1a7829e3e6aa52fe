//! The table of built-in schemas, as the build script writes it, and its lazy decoding.
//!
//! After inflating, the table is text. The first line is the number of definitions. A definition
//! is a line `=<name>\t<a if atomic>` followed by a line for each field, sorted by name:
//!
//! | column | holds |
//! |---|---|
//! | 1 | the field's name |
//! | 2 | its type: `s` text, `y` base64, `t` time, `u` microtime, `i` int32, `l` int64, `n` number, `b` boolean, `q` quantity, `v` int-or-string, `x` anything, `[`T list, `{`T map, `@`N definition number N |
//! | 3 | flags: `r` required, `z` a zero value is as good as absent |
//! | 4 | list type: `atomic`, `set`, `map(keys)` |
//! | 5 | map type: `atomic-map` |
//! | 6 | patch strategies, joined by `+`, with the merge key in parentheses |
//! | 7 | the default, as JSON |
//!
//! Columns that are empty at the end are left out. The build script and this reader are of one
//! build, so what cannot be read is a bug; it then reads as "anything", and a test decodes all.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::DeflateDecoder;

use super::{Field, Format, ListType, MapType, Node, PatchStrategy, Schema, Str, Target, Type};

static BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));

const fn scalar(ty: Type, format: Format) -> Schema {
    Schema {
        ty,
        format,
        definition: Cow::Borrowed(""),
        fields: Vec::new(),
        items: None,
        additional: None,
        list_type: ListType::Atomic,
        map_type: MapType::Granular,
        nullable: false,
        preserve_unknown: matches!(ty, Type::Any),
        embedded: false,
        from_crd: false,
        has_defaults: false,
        rules: None,
    }
}

/// The schema of anything.
pub(super) static ANY: Schema = scalar(Type::Any, Format::None);
static STRING: Schema = scalar(Type::String, Format::None);
static BYTES: Schema = scalar(Type::String, Format::Byte);
static TIME: Schema = scalar(Type::String, Format::Time);
static MICRO_TIME: Schema = scalar(Type::String, Format::MicroTime);
static INT32: Schema = scalar(Type::Integer, Format::Int32);
static INT64: Schema = scalar(Type::Integer, Format::Int64);
static NUMBER: Schema = scalar(Type::Number, Format::Double);
static BOOLEAN: Schema = scalar(Type::Boolean, Format::None);
static QUANTITY: Schema = scalar(Type::Quantity, Format::None);
static INT_OR_STRING: Schema = scalar(Type::IntOrString, Format::None);

struct Table {
    schemas: Vec<Schema>,
    numbers: HashMap<&'static str, u32>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut text = String::new();
    let read = DeflateDecoder::new(BLOB).read_to_string(&mut text);
    debug_assert!(read.is_ok(), "the embedded schema table inflates");
    // Names stay borrowed from the text, which lives as long as the process, as the table does.
    decode(Box::leak(text.into_boxed_str()))
});

/// The built-in schema of a definition such as `io.k8s.api.core.v1.Pod`.
pub fn builtin(definition: &str) -> Option<&'static Schema> {
    TABLE.numbers.get(definition).map(|n| by_number(*n))
}

/// The schema of definition `number`, which came from the table itself.
pub(super) fn by_number(number: u32) -> &'static Schema {
    TABLE.schemas.get(number as usize).unwrap_or(&ANY)
}

/// The node of a built-in definition, to be part of another schema.
pub(super) fn node(definition: &str) -> Node {
    match TABLE.numbers.get(definition) {
        Some(number) => Node { target: Target::Named(*number), default: None },
        None => Node::default(),
    }
}

fn decode(text: &'static str) -> Table {
    let mut lines = text.lines();
    let count = lines.next().and_then(|n| n.parse().ok()).unwrap_or_default();
    let mut table = Table { schemas: Vec::with_capacity(count), numbers: HashMap::with_capacity(count) };
    for line in lines {
        if let Some(head) = line.strip_prefix('=') {
            let (name, flags) = head.split_once('\t').unwrap_or((head, ""));
            let map_type = if flags.contains('a') { MapType::Atomic } else { MapType::Granular };
            table.numbers.insert(name, table.schemas.len() as u32);
            table.schemas.push(Schema {
                definition: Cow::Borrowed(name),
                map_type,
                ..scalar(Type::Object, Format::None)
            });
        } else if let Some(schema) = table.schemas.last_mut() {
            let field = field(line);
            schema.has_defaults |= field.node.default.is_some();
            schema.fields.push(field);
        }
    }
    table
}

fn field(line: &'static str) -> Field {
    let mut columns = line.split('\t');
    let mut next = || columns.next().unwrap_or_default();
    let (name, code, flags, list, map, patch, default) =
        (next(), next(), next(), next(), next(), next(), next());
    let mut node = Node { target: target(code, list, map), default: None };
    if !default.is_empty() {
        node.default = serde_json::from_str(default).ok().map(Box::new);
    }
    let (strategies, merge_key) = patch.split_once('(').unwrap_or((patch, ""));
    let has = |strategy: &str| strategies.split('+').any(|s| s == strategy);
    Field {
        name: Cow::Borrowed(name),
        node,
        required: flags.contains('r'),
        zero_is_absent: flags.contains('z'),
        patch: PatchStrategy { merge: has("merge"), retain_keys: has("retainKeys"), replace: has("replace") },
        merge_key: Cow::Borrowed(merge_key.trim_end_matches(')')),
    }
}

fn target(code: &'static str, list: &'static str, map: &'static str) -> Target {
    let rest = code.get(1..).unwrap_or_default();
    let shared = match code.as_bytes().first() {
        Some(b'@') => return rest.parse().map(Target::Named).unwrap_or_default(),
        Some(b'[') => {
            let items = Some(Node { target: target(rest, "", ""), default: None });
            let list_type = list_type(list);
            return Target::Inline(Box::new(Schema {
                items,
                list_type,
                ..scalar(Type::Array, Format::None)
            }));
        }
        Some(b'{') => {
            let additional = Some(Node { target: target(rest, "", ""), default: None });
            let map_type = if map == "atomic-map" { MapType::Atomic } else { MapType::Granular };
            return Target::Inline(Box::new(Schema {
                additional,
                map_type,
                ..scalar(Type::Object, Format::None)
            }));
        }
        Some(b's') => &STRING,
        Some(b'y') => &BYTES,
        Some(b't') => &TIME,
        Some(b'u') => &MICRO_TIME,
        Some(b'i') => &INT32,
        Some(b'l') => &INT64,
        Some(b'n') => &NUMBER,
        Some(b'b') => &BOOLEAN,
        Some(b'q') => &QUANTITY,
        Some(b'v') => &INT_OR_STRING,
        _ => &ANY,
    };
    Target::Shared(shared)
}

fn list_type(text: &'static str) -> ListType {
    match text.strip_prefix("map(") {
        Some(keys) => ListType::Map(
            keys.trim_end_matches(')').split(',').map(|k| -> Str { Cow::Borrowed(k) }).collect(),
        ),
        None if text == "set" => ListType::Set,
        None => ListType::Atomic,
    }
}
