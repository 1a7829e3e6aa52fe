//! Turns k8s-openapi's schemas and the tables in `overlay/` into the two blobs that
//! `src/schema` embeds: `schema.bin`, the compact table that every write reads, and
//! `openapi.bin`, whole definitions with descriptions, which only /openapi decodes.
//!
//! The line format of `schema.bin` is described in `src/schema/table.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

type AnyError = Box<dyn std::error::Error>;
/// Group, version and kind by definition name.
type Kinds = BTreeMap<String, (String, String, String)>;

fn main() -> Result<(), AnyError> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=overlay");
    let (definitions, kinds) = definitions();
    let overlay = Overlay::read(&definitions)?;
    let out = std::env::var("OUT_DIR")?;
    let table = table(&definitions, &overlay)?;
    deflate(&Path::new(&out).join("schema.bin"), table.as_bytes())?;
    let openapi = openapi(&definitions, &kinds, &overlay);
    deflate(&Path::new(&out).join("openapi.bin"), &serde_json::to_vec(&openapi)?)?;
    Ok(())
}

fn deflate(path: &Path, bytes: &[u8]) -> Result<(), AnyError> {
    let file = std::fs::File::create(path)?;
    let mut encoder = flate2::write::DeflateEncoder::new(file, flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()?;
    Ok(())
}

/// Registers a kind and everything that it refers to.
fn register<T: JsonSchema + k8s_openapi::Resource>(generator: &mut SchemaGenerator, kinds: &mut Kinds) {
    let _ = generator.subschema_for::<T>();
    let kind = (T::GROUP.to_owned(), T::VERSION.to_owned(), T::KIND.to_owned());
    kinds.insert(T::schema_name().into_owned(), kind);
}

macro_rules! register_all {
    ($generator:expr, $kinds:expr, $($kind:ty),* $(,)?) => { $( register::<$kind>($generator, $kinds); )* };
}

/// Every definition that a row of the resource table or one of its subresources speaks.
fn definitions() -> (BTreeMap<String, Value>, Kinds) {
    let mut generator = SchemaSettings::draft07().into_generator();
    let mut kinds = Kinds::new();
    let _ = generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions>();
    let _ = generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta>();
    let _ = generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>();
    let _ = generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>();
    register_all! {
        &mut generator, &mut kinds,
        k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy,
        k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding,
        k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration,
        k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy,
        k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding,
        k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration,
        k8s_openapi::api::apps::v1::ControllerRevision,
        k8s_openapi::api::apps::v1::DaemonSet,
        k8s_openapi::api::apps::v1::Deployment,
        k8s_openapi::api::apps::v1::ReplicaSet,
        k8s_openapi::api::apps::v1::StatefulSet,
        k8s_openapi::api::authentication::v1::SelfSubjectReview,
        k8s_openapi::api::authentication::v1::TokenRequest,
        k8s_openapi::api::authentication::v1::TokenReview,
        k8s_openapi::api::authorization::v1::LocalSubjectAccessReview,
        k8s_openapi::api::authorization::v1::SelfSubjectAccessReview,
        k8s_openapi::api::authorization::v1::SelfSubjectRulesReview,
        k8s_openapi::api::authorization::v1::SubjectAccessReview,
        k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler,
        k8s_openapi::api::autoscaling::v1::Scale,
        k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler,
        k8s_openapi::api::batch::v1::CronJob,
        k8s_openapi::api::batch::v1::Job,
        k8s_openapi::api::certificates::v1::CertificateSigningRequest,
        k8s_openapi::api::coordination::v1::Lease,
        k8s_openapi::api::core::v1::Binding,
        k8s_openapi::api::core::v1::ComponentStatus,
        k8s_openapi::api::core::v1::ConfigMap,
        k8s_openapi::api::core::v1::Endpoints,
        k8s_openapi::api::core::v1::Event,
        k8s_openapi::api::core::v1::LimitRange,
        k8s_openapi::api::core::v1::Namespace,
        k8s_openapi::api::core::v1::Node,
        k8s_openapi::api::core::v1::PersistentVolume,
        k8s_openapi::api::core::v1::PersistentVolumeClaim,
        k8s_openapi::api::core::v1::Pod,
        k8s_openapi::api::core::v1::PodTemplate,
        k8s_openapi::api::core::v1::ReplicationController,
        k8s_openapi::api::core::v1::ResourceQuota,
        k8s_openapi::api::core::v1::Secret,
        k8s_openapi::api::core::v1::Service,
        k8s_openapi::api::core::v1::ServiceAccount,
        k8s_openapi::api::discovery::v1::EndpointSlice,
        k8s_openapi::api::events::v1::Event,
        k8s_openapi::api::flowcontrol::v1::FlowSchema,
        k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration,
        k8s_openapi::api::networking::v1::IPAddress,
        k8s_openapi::api::networking::v1::Ingress,
        k8s_openapi::api::networking::v1::IngressClass,
        k8s_openapi::api::networking::v1::NetworkPolicy,
        k8s_openapi::api::networking::v1::ServiceCIDR,
        k8s_openapi::api::node::v1::RuntimeClass,
        k8s_openapi::api::policy::v1::Eviction,
        k8s_openapi::api::policy::v1::PodDisruptionBudget,
        k8s_openapi::api::rbac::v1::ClusterRole,
        k8s_openapi::api::rbac::v1::ClusterRoleBinding,
        k8s_openapi::api::rbac::v1::Role,
        k8s_openapi::api::rbac::v1::RoleBinding,
        k8s_openapi::api::resource::v1::DeviceClass,
        k8s_openapi::api::resource::v1::ResourceClaim,
        k8s_openapi::api::resource::v1::ResourceClaimTemplate,
        k8s_openapi::api::resource::v1::ResourceSlice,
        k8s_openapi::api::scheduling::v1::PriorityClass,
        k8s_openapi::api::storage::v1::CSIDriver,
        k8s_openapi::api::storage::v1::CSINode,
        k8s_openapi::api::storage::v1::CSIStorageCapacity,
        k8s_openapi::api::storage::v1::StorageClass,
        k8s_openapi::api::storage::v1::VolumeAttachment,
        k8s_openapi::api::storage::v1::VolumeAttributesClass,
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService,
    }
    let definitions =
        generator.definitions().iter().map(|(name, schema)| (name.clone(), schema.clone())).collect();
    (definitions, kinds)
}

/// `core.v1.Pod` for `io.k8s.api.core.v1.Pod`: how the overlay tables name definitions.
fn short_name(name: &str) -> &str {
    let prefixes = [
        "io.k8s.api.",
        "io.k8s.apimachinery.pkg.apis.",
        "io.k8s.apiextensions-apiserver.pkg.apis.",
        "io.k8s.kube-aggregator.pkg.apis.",
    ];
    prefixes.iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name)
}

/// What the overlay says about one field.
#[derive(Default)]
struct Facts {
    list: Option<String>,
    map: Option<String>,
    patch: Option<String>,
    default: Option<Value>,
    /// Whether an empty or zero value is as good as none; `None` where the type decides.
    zero_is_absent: Option<bool>,
}

#[derive(Default)]
struct Overlay {
    atomic: BTreeSet<String>,
    fields: BTreeMap<(String, String), Facts>,
}

impl Overlay {
    #[expect(
        clippy::disallowed_methods,
        reason = "a build script reads its inputs; the crate itself does no I/O"
    )]
    fn read(definitions: &BTreeMap<String, Value>) -> Result<Self, AnyError> {
        let by_short: BTreeMap<&str, &str> =
            definitions.keys().map(|n| (short_name(n), n.as_str())).collect();
        let mut overlay = Self::default();
        for file in ["merge", "defaults", "zeros"] {
            let text = std::fs::read_to_string(format!("overlay/{file}.txt"))?;
            let mut definition: Option<&str> = None;
            for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
                if !line.starts_with(' ') {
                    let mut words = line.split_whitespace();
                    let name = words.next().unwrap_or_default();
                    definition = by_short.get(name).copied();
                    match (definition, words.next()) {
                        (None, _) => println!("cargo::warning=overlay/{file}.txt: no definition {name}"),
                        (Some(name), Some("atomic")) => {
                            overlay.atomic.insert(name.to_owned());
                        }
                        _ => {}
                    }
                } else if let Some(definition) = definition {
                    overlay.field(definition, file, line.trim(), definitions)?;
                }
            }
        }
        Ok(overlay)
    }

    fn field(
        &mut self,
        definition: &str,
        file: &str,
        line: &str,
        definitions: &BTreeMap<String, Value>,
    ) -> Result<(), AnyError> {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        if definitions[definition].pointer("/properties").and_then(|p| p.get(name)).is_none() {
            println!("cargo::warning=overlay/{file}.txt: {definition} has no field {name}");
            return Ok(());
        }
        let facts = self.fields.entry((definition.to_owned(), name.to_owned())).or_default();
        match file {
            "merge" => {
                for word in rest.split_whitespace() {
                    match word {
                        "atomic" | "set" => facts.list = Some(word.to_owned()),
                        "atomic-map" | "granular-map" => facts.map = Some(word.to_owned()),
                        _ if word.starts_with("map(") => facts.list = Some(word.to_owned()),
                        _ if word.starts_with("patch:") => facts.patch = Some(word[6..].to_owned()),
                        _ => return Err(format!("overlay/merge.txt: {word}?").into()),
                    }
                }
            }
            "defaults" => {
                let text =
                    rest.trim().strip_prefix('=').ok_or_else(|| format!("overlay/defaults.txt: {line}?"))?;
                facts.default = Some(serde_json::from_str(text.trim())?);
            }
            _ => facts.zero_is_absent = Some(rest.trim() != "keep"),
        }
        Ok(())
    }
}

/// Definitions that have a type of their own in the compact table.
fn special(name: &str) -> Option<&'static str> {
    Some(match name {
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => "t",
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => "u",
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => "q",
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => "v",
        "io.k8s.apimachinery.pkg.runtime.RawExtension" | "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => {
            "x"
        }
        _ if name.ends_with(".JSON") || name.contains(".JSONSchemaPropsOr") => "x",
        _ => return None,
    })
}

fn reference(schema: &Value) -> Option<&str> {
    let text = schema.get("$ref").and_then(Value::as_str).or_else(|| {
        let all = schema.get("allOf")?.as_array()?;
        if all.len() == 1 { all[0].get("$ref")?.as_str() } else { None }
    })?;
    text.rsplit('/').next()
}

/// The type code of a schema: see `src/schema/table.rs`.
fn code(schema: &Value, numbers: &BTreeMap<&str, usize>) -> Result<String, AnyError> {
    if let Some(name) = reference(schema) {
        if let Some(code) = special(name) {
            return Ok(code.to_owned());
        }
        let number = numbers.get(name).ok_or_else(|| format!("no definition {name}"))?;
        return Ok(format!("@{number}"));
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    Ok(match (schema.get("type").and_then(Value::as_str).unwrap_or_default(), format) {
        ("string", "byte") => "y".to_owned(),
        ("string", "date-time") => "t".to_owned(),
        ("string", _) => "s".to_owned(),
        ("integer", "int32") => "i".to_owned(),
        ("integer", _) => "l".to_owned(),
        ("number", _) => "n".to_owned(),
        ("boolean", _) => "b".to_owned(),
        ("array", _) => format!("[{}", code(schema.get("items").unwrap_or(&json!({})), numbers)?),
        ("object", _) => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => format!("{{{}", code(values, numbers)?),
            _ => "x".to_owned(),
        },
        _ => "x".to_owned(),
    })
}

/// Whether a zero value means nothing: strings that Go omits when empty, and what the overlay says.
fn zero_is_absent(facts: Option<&Facts>, code: &str, required: bool) -> bool {
    let by_type = !required && matches!(code.as_bytes()[0], b's' | b'y');
    facts.and_then(|f| f.zero_is_absent).unwrap_or(by_type)
}

fn table(definitions: &BTreeMap<String, Value>, overlay: &Overlay) -> Result<String, AnyError> {
    let names: Vec<&str> = definitions.keys().map(String::as_str).filter(|n| special(n).is_none()).collect();
    let numbers: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (*n, i)).collect();
    let mut out = String::new();
    writeln!(out, "{}", names.len())?;
    for name in &names {
        let schema = &definitions[*name];
        writeln!(out, "={name}\t{}", if overlay.atomic.contains(*name) { "a" } else { "" })?;
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let properties: BTreeMap<&String, &Value> =
            schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
        for (field, value) in properties {
            let facts = overlay.fields.get(&((*name).to_owned(), field.clone()));
            let code = code(value, &numbers)?;
            let required = required.contains(&field.as_str());
            let mut flags = String::new();
            flags.push_str(if required { "r" } else { "" });
            flags.push_str(if zero_is_absent(facts, &code, required) { "z" } else { "" });
            let text = |pick: fn(&Facts) -> Option<&String>| {
                facts.and_then(pick).map(String::as_str).unwrap_or_default()
            };
            let list = text(|f| f.list.as_ref());
            let map = text(|f| f.map.as_ref());
            let patch = text(|f| f.patch.as_ref());
            let default = facts.and_then(|f| f.default.as_ref()).map(Value::to_string).unwrap_or_default();
            let line = format!("{field}\t{code}\t{flags}\t{list}\t{map}\t{patch}\t{default}");
            writeln!(out, "{}", line.trim_end_matches('\t'))?;
        }
    }
    Ok(out)
}

/// Rewrites a schema for OpenAPI v3: references into `components`, with their siblings kept.
fn rewrite(schema: &Value) -> Value {
    let Some(object) = schema.as_object() else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in object {
        let value = match key.as_str() {
            "$ref" => {
                let name = value.as_str().and_then(|t| t.rsplit('/').next()).unwrap_or_default();
                let target = json!({ "$ref": format!("#/components/schemas/{name}") });
                if object.len() == 1 {
                    return target;
                }
                out.insert("allOf".to_owned(), json!([target]));
                continue;
            }
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                Value::Object(fields.map(|(name, field)| (name.clone(), rewrite(field))).collect())
            }
            "items" | "additionalProperties" | "not" => rewrite(value),
            "allOf" | "anyOf" | "oneOf" => value.as_array().into_iter().flatten().map(rewrite).collect(),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

fn openapi(definitions: &BTreeMap<String, Value>, kinds: &Kinds, overlay: &Overlay) -> Value {
    let mut out = Map::new();
    for (name, schema) in definitions {
        let mut schema = rewrite(schema);
        if let Some((group, version, kind)) = kinds.get(name) {
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": group, "version": version, "kind": kind}]);
        }
        if overlay.atomic.contains(name) {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
        if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for (field, value) in fields {
                if let Some(facts) = overlay.fields.get(&(name.clone(), field.clone())) {
                    annotate(value, facts);
                }
            }
        }
        out.insert(name.clone(), schema);
    }
    Value::Object(out)
}

fn annotate(field: &mut Value, facts: &Facts) {
    if let Some(list) = &facts.list {
        let (kind, keys) = list.split_once('(').unwrap_or((list, ""));
        field["x-kubernetes-list-type"] = json!(kind);
        if !keys.is_empty() {
            let keys: Vec<&str> = keys.trim_end_matches(')').split(',').collect();
            field["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    if let Some(map) = &facts.map {
        field["x-kubernetes-map-type"] = json!(map.trim_end_matches("-map"));
    }
    if let Some(patch) = &facts.patch {
        let (strategies, key) = patch.split_once('(').unwrap_or((patch, ""));
        field["x-kubernetes-patch-strategy"] = json!(strategies.replace('+', ","));
        if !key.is_empty() {
            field["x-kubernetes-patch-merge-key"] = json!(key.trim_end_matches(')'));
        }
    }
    if let Some(default) = &facts.default {
        field["default"] = default.clone();
    }
}
