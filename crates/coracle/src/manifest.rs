//! Manifests for `up -f`: YAML or JSON documents, applied in order, idempotently.
//!
//! Reading finds every mistake of every file before anything is applied. Applying is server-side
//! apply: fields that others own and the document does not name stay as they are, those that an
//! earlier document named and this one does not go, and conflicts are won.

use std::path::{Path, PathBuf};

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope};
use serde_json::Value;

/// Largest manifest file, in bytes: the API server's own limit for a body.
pub const FILE_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// Who writes, in managedFields.
const FIELD_MANAGER: &str = "coracle-up";

/// One document of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file it came from.
    pub file: PathBuf,
    /// Its place in the file, from 1; empty documents do not count.
    pub number: usize,
    /// The object.
    pub object: DynamicObject,
    gvk: GroupVersionKind,
}

/// Why a manifest was not applied; names file and document, and the field where one is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is larger than [`FILE_BYTES_MAX`].
    #[error("{}: larger than {FILE_BYTES_MAX} bytes", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The text is no YAML.
    #[error("{}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What the parser says, with line and column.
        message: String,
    },
    /// A document is no Kubernetes object.
    #[error("{}, document {number}: {field}: {problem}", file.display())]
    Object {
        /// The file.
        file: PathBuf,
        /// The document's place, from 1.
        number: usize,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The API server refused it.
    #[error("{}, document {number} ({what}): {message}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// The document's place, from 1.
        number: usize,
        /// Kind and name.
        what: String,
        /// The server's answer.
        message: String,
    },
}

/// Reads all documents of a file. A `List` stands for its items.
///
/// # Errors
/// See [`Error`].
pub fn read(file: &Path) -> Result<Vec<Document>, Error> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(Error::TooLarge { file: file.to_owned() });
    }
    parse(file, &std::fs::read_to_string(file).map_err(failed)?)
}

fn parse(file: &Path, text: &str) -> Result<Vec<Document>, Error> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|e| Error::Syntax { file: file.to_owned(), message: e.to_string() })?;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let number = index + 1;
        match value {
            Value::Null => {}
            Value::Object(mut map) if map.get("kind").is_some_and(|k| k == "List") => {
                let Some(Value::Array(items)) = map.remove("items") else {
                    return Err(object_error(file, number, "items", "a List needs items"));
                };
                for item in items {
                    documents.push(document(file, number, item)?);
                }
            }
            other => documents.push(document(file, number, other)?),
        }
    }
    Ok(documents)
}

fn document(file: &Path, number: usize, value: Value) -> Result<Document, Error> {
    if !value.is_object() {
        return Err(object_error(file, number, "document", "not an object"));
    }
    let text = |pointer: &'static str, field: &'static str| match value.pointer(pointer) {
        Some(Value::String(s)) if !s.is_empty() => Ok(s.clone()),
        Some(Value::String(_)) | None => Err(object_error(file, number, field, "is required")),
        Some(_) => Err(object_error(file, number, field, "must be a string")),
    };
    let api_version = text("/apiVersion", "apiVersion")?;
    let kind = text("/kind", "kind")?;
    text("/metadata/name", "metadata.name")?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let object =
        serde_json::from_value(value).map_err(|e| object_error(file, number, "metadata", &e.to_string()))?;
    Ok(Document { file: file.to_owned(), number, object, gvk })
}

fn object_error(file: &Path, number: usize, field: &'static str, problem: &str) -> Error {
    Error::Object { file: file.to_owned(), number, field, problem: problem.to_owned() }
}

/// Applies one document and returns the object as stored.
///
/// # Errors
/// [`Error::Refused`] with the server's words.
pub async fn apply(client: &kube::Client, document: &Document) -> Result<DynamicObject, Error> {
    let name = document.object.metadata.name.clone().unwrap_or_default();
    let refused = |e: kube::Error| Error::Refused {
        file: document.file.clone(),
        number: document.number,
        what: format!("{} {name}", document.gvk.kind),
        message: match e {
            kube::Error::Api(status) => status.message,
            other => other.to_string(),
        },
    };
    let (resource, capabilities) =
        kube::discovery::pinned_kind(client, &document.gvk).await.map_err(refused)?;
    let api = api_of(client, document, &resource, &capabilities.scope);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&name, &parameters, &Patch::Apply(&document.object)).await.map_err(refused)
}

fn api_of(
    client: &kube::Client,
    document: &Document,
    resource: &ApiResource,
    scope: &Scope,
) -> Api<DynamicObject> {
    match scope {
        Scope::Cluster => Api::all_with(client.clone(), resource),
        Scope::Namespaced => {
            let namespace = document.object.metadata.namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, resource)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Document>, Error> {
        parse(Path::new("app.yaml"), text)
    }

    #[test]
    fn documents_are_counted_but_empty_ones_are_not() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\n";
        let documents = read_text(text).unwrap();
        let seen: Vec<_> =
            documents.iter().map(|d| (d.number, d.gvk.api_version(), d.gvk.kind.as_str())).collect();
        assert_eq!(seen, [(1, "v1".into(), "ConfigMap"), (2, "apps/v1".into(), "Deployment")]);
    }

    #[test]
    fn mistakes_name_file_document_and_field() {
        let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n";
        for (text, wanted) in [
            ("kind: ConfigMap\nmetadata: {name: a}", "app.yaml, document 2: apiVersion: is required"),
            ("apiVersion: v1\nkind: 3\nmetadata: {name: a}", "app.yaml, document 2: kind: must be a string"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {}", "app.yaml, document 2: metadata.name: is required"),
            ("- 1\n- 2", "app.yaml, document 2: document: not an object"),
        ] {
            let error = read_text(&format!("{good}{text}")).unwrap_err().to_string();
            assert_eq!(error, wanted);
        }
        let error = read_text("a: [1, 2\nb: }").unwrap_err().to_string();
        assert!(error.starts_with("app.yaml: ") && error.contains("line"), "{error}");
    }

    #[test]
    fn a_list_stands_for_its_items() {
        let text =
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n";
        assert_eq!(read_text(text).unwrap()[0].gvk.kind, "Secret");
    }
}
