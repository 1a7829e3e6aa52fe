//! Reading the structural schema of a CustomResourceDefinition into the one schema model.

use serde_json::{Map, Value};

use super::{Field, Format, ListType, MapType, Node, Rules, Schema, Type, table};
use crate::field::{FieldError, FieldErrors, FieldPath};

/// How deep schemas may nest; deeper ones are refused.
const DEPTH_MAX: usize = 64;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Reads the `openAPIV3Schema` of a CRD version: the schema of whole objects, with `apiVersion`,
/// `kind` and `metadata` as every object has them. Errors are relative to `openAPIV3Schema`.
pub fn from_crd(schema: &Value) -> Result<Schema, FieldErrors> {
    let mut reader = Reader { errors: Vec::new() };
    let root = FieldPath::new("openAPIV3Schema");
    let mut out = reader.schema(schema, &root, 0);
    if out.ty != Type::Object {
        reader.errors.push(FieldError::invalid(
            root.child("type"),
            text(schema, "type"),
            "must be object at the root",
        ));
    }
    if !reader.errors.is_empty() {
        return Err(reader.errors);
    }
    out.embedded = true;
    Ok(with_object_fields(out))
}

/// Gives a schema of whole objects the fields that every object has.
fn with_object_fields(mut schema: Schema) -> Schema {
    schema.fields.retain(|f| !matches!(f.name.as_ref(), "apiVersion" | "kind" | "metadata"));
    for name in ["apiVersion", "kind"] {
        let node = Node::inline(Schema { ty: Type::String, ..Schema::default() });
        schema.fields.push(Field { name: name.into(), node, ..Field::default() });
    }
    schema.fields.push(Field { name: "metadata".into(), node: table::node(OBJECT_META), ..Field::default() });
    schema.finish()
}

struct Reader {
    errors: FieldErrors,
}

impl Reader {
    fn schema(&mut self, schema: &Value, path: &FieldPath<'_>, depth: usize) -> Schema {
        let Some(object) = schema.as_object() else {
            self.errors.push(FieldError::type_invalid(path, schema.clone(), "must be an object"));
            return Schema::default();
        };
        if depth > DEPTH_MAX {
            self.errors
                .push(FieldError::forbidden(path, format!("schemas may nest at most {DEPTH_MAX} deep")));
            return Schema::default();
        }
        let flag = |name: &str| object.get(name).and_then(Value::as_bool).unwrap_or_default();
        let mut out = Schema {
            ty: self.ty(object, path),
            format: format(text(schema, "format")),
            nullable: flag("nullable"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            from_crd: true,
            map_type: if text(schema, "x-kubernetes-map-type") == "atomic" {
                MapType::Atomic
            } else {
                MapType::Granular
            },
            list_type: list_type(schema),
            ..Schema::default()
        };
        self.children(object, &mut out, path, depth);
        out.rules = self.rules(object, path, depth).map(Box::new);
        if out.embedded { with_object_fields(out) } else { out.finish() }
    }

    fn ty(&mut self, object: &Map<String, Value>, path: &FieldPath<'_>) -> Type {
        let flag = |name: &str| object.get(name).and_then(Value::as_bool).unwrap_or_default();
        match object.get("type").and_then(Value::as_str).unwrap_or_default() {
            "object" => Type::Object,
            "array" => Type::Array,
            "string" => Type::String,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            "" if flag("x-kubernetes-int-or-string") => Type::IntOrString,
            "" if flag("x-kubernetes-preserve-unknown-fields") => Type::Any,
            "" => {
                self.errors.push(FieldError::required(
                    path.child("type"),
                    "must not be empty for specified object fields",
                ));
                Type::Any
            }
            other => {
                let known = ["array", "boolean", "integer", "number", "object", "string"];
                self.errors.push(FieldError::not_supported(path.child("type"), other, &known));
                Type::Any
            }
        }
    }

    fn children(
        &mut self,
        object: &Map<String, Value>,
        out: &mut Schema,
        path: &FieldPath<'_>,
        depth: usize,
    ) {
        let required: Vec<&str> = object
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let properties = path.child("properties");
        for (name, value) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let node = self.node(value, &properties.key(name), depth);
            let required = required.contains(&name.as_str());
            out.fields.push(Field { name: name.clone().into(), node, required, ..Field::default() });
        }
        match object.get("additionalProperties") {
            Some(Value::Bool(true)) => out.additional = Some(Node::default()),
            Some(value @ Value::Object(_)) => {
                out.additional = Some(self.node(value, &path.child("additionalProperties"), depth));
            }
            _ => {}
        }
        if out.additional.is_some() && object.get("properties").is_some() {
            let why = "additionalProperties and properties are mutual exclusive";
            self.errors.push(FieldError::forbidden(path.child("additionalProperties"), why));
        }
        match object.get("items") {
            Some(value) => out.items = Some(self.node(value, &path.child("items"), depth)),
            None if out.ty == Type::Array => {
                self.errors.push(FieldError::required(path.child("items"), "must be specified"));
            }
            None => {}
        }
    }

    fn node(&mut self, value: &Value, path: &FieldPath<'_>, depth: usize) -> Node {
        let mut node = Node::inline(self.schema(value, path, depth + 1));
        node.default = value.get("default").cloned().map(Box::new);
        node
    }

    fn rules(&mut self, object: &Map<String, Value>, path: &FieldPath<'_>, depth: usize) -> Option<Rules> {
        let count = |name: &str| object.get(name).and_then(Value::as_u64);
        let number = |name: &str| object.get(name).and_then(Value::as_f64);
        let flag = |name: &str| object.get(name).and_then(Value::as_bool).unwrap_or_default();
        let string = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = |name: &str| object.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let rules = Rules {
            enums: list("enum"),
            format: string("format"),
            pattern: string("pattern"),
            minimum: number("minimum"),
            maximum: number("maximum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of: self.logic(object, "allOf", path, depth),
            any_of: self.logic(object, "anyOf", path, depth),
            one_of: self.logic(object, "oneOf", path, depth),
            not: object.get("not").map(|not| Box::new(Self::partial(not, depth + 1))),
            validations: list("x-kubernetes-validations"),
        };
        (!rules.is_empty()).then_some(rules)
    }

    fn logic(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        path: &FieldPath<'_>,
        depth: usize,
    ) -> Vec<Schema> {
        if depth > DEPTH_MAX {
            self.errors
                .push(FieldError::forbidden(path, format!("schemas may nest at most {DEPTH_MAX} deep")));
            return Vec::new();
        }
        let list = object.get(name).and_then(Value::as_array);
        list.into_iter().flatten().map(|s| Self::partial(s, depth + 1)).collect()
    }

    /// A schema inside a logical rule: it may leave out types, so errors there are not structural.
    fn partial(schema: &Value, depth: usize) -> Schema {
        Reader { errors: Vec::new() }.schema(schema, &FieldPath::ROOT, depth)
    }
}

impl Rules {
    /// Whether nothing is ruled.
    pub fn is_empty(&self) -> bool {
        let texts = self.format.is_empty() && self.pattern.is_empty();
        let lists = self.enums.is_empty() && self.validations.is_empty();
        let logic =
            self.all_of.is_empty() && self.any_of.is_empty() && self.one_of.is_empty() && self.not.is_none();
        let numbers = [self.minimum, self.maximum, self.multiple_of].iter().all(Option::is_none);
        let counts = [
            self.min_length,
            self.max_length,
            self.min_items,
            self.max_items,
            self.min_properties,
            self.max_properties,
        ];
        let flags = self.unique_items || self.exclusive_minimum || self.exclusive_maximum;
        texts && lists && logic && numbers && counts.iter().all(Option::is_none) && !flags
    }
}

fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn format(text: &str) -> Format {
    match text {
        "int32" => Format::Int32,
        "int64" => Format::Int64,
        "float" | "double" => Format::Double,
        "byte" => Format::Byte,
        "date-time" => Format::Time,
        _ => Format::None,
    }
}

fn list_type(schema: &Value) -> ListType {
    match text(schema, "x-kubernetes-list-type") {
        "set" => ListType::Set,
        "map" => {
            let keys =
                schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
            ListType::Map(keys.filter_map(Value::as_str).map(|k| k.to_owned().into()).collect())
        }
        _ => ListType::Atomic,
    }
}
