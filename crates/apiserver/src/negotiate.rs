//! In which form an answer is wanted (`Accept`), after kube-apiserver's rules: clauses in
//! order of preference, exact types or `*/*` only, and the parameters `as`, `g`, `v` that
//! ask for a Table or for metadata alone.

use coracle_api::field::FieldError;
use coracle_api::status::{Details, Status};
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};

use crate::request::{Encoding, Include, MetaVersion, ObjectFormat, Query, RequestInfo, Shape, Verb};
use crate::respond::Compress;

/// Most clauses of an `Accept` header that are looked at; later ones are ignored.
const CLAUSES_MAX: usize = 32;

/// One clause of an `Accept` header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Clause<'a> {
    /// Type and subtype, as sent.
    pub(crate) media_type: &'a str,
    /// Parameters without `q`.
    pub(crate) parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    /// The first value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }

    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let mut clause = Self { media_type, parameters: Vec::new(), quality: 1.0 };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if key.eq_ignore_ascii_case("q") {
                clause.quality = value.parse().unwrap_or(1.0);
            } else {
                clause.parameters.push((key, value));
            }
        }
        clause
    }
}

/// The clauses of all `Accept` headers, best first. None means anything is fine.
pub(crate) fn accepted(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .take(CLAUSES_MAX)
        .map(Clause::parse)
        .filter(|clause| clause.quality > 0.0)
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

/// The form in which the answer to a request on a resource is wanted.
///
/// # Errors
/// 406 when nothing on offer is accepted, 400 for an unknown `includeObject`.
pub(crate) fn resource_format(headers: &HeaderMap, info: &RequestInfo) -> Result<ObjectFormat, Status> {
    let watches = info.verb == Verb::Watch;
    let clauses = accepted(headers);
    let mut format = if clauses.is_empty() {
        ObjectFormat::default()
    } else {
        clauses
            .iter()
            .find_map(|clause| understood(clause, watches))
            .ok_or_else(|| not_acceptable(matches!(info.verb, Verb::List | Verb::Watch)))?
    };
    if watches && format.encoding == Encoding::Yaml {
        return Err(not_acceptable(true));
    }
    if let Shape::Table { include, .. } = &mut format.shape {
        *include = include_object(&info.query)?;
    }
    format.pretty = format.pretty || info.query.flag("pretty") == Some(true);
    Ok(format)
}

/// JSON or YAML, for answers that have no other form.
///
/// # Errors
/// 406 when neither is accepted.
pub(crate) fn plain_format(headers: &HeaderMap, query: &Query) -> Result<ObjectFormat, Status> {
    let clauses = accepted(headers);
    let pretty = query.flag("pretty") == Some(true);
    if clauses.is_empty() {
        return Ok(ObjectFormat { pretty, ..ObjectFormat::default() });
    }
    clauses
        .iter()
        .filter(|clause| clause.parameter("as").is_none())
        .find_map(|clause| encoding(clause.media_type))
        .map(|encoding| ObjectFormat { encoding, pretty, ..ObjectFormat::default() })
        .ok_or_else(|| not_acceptable(false))
}

/// The form for an error about a request whose own form could not be settled.
pub(crate) fn error_format(headers: &HeaderMap) -> ObjectFormat {
    let encoding =
        accepted(headers).iter().find_map(|clause| encoding(clause.media_type)).unwrap_or_default();
    ObjectFormat { encoding, ..ObjectFormat::default() }
}

/// Whether the answer may be compressed: the client takes gzip, and it is a read.
pub(crate) fn compression(headers: &HeaderMap, info: &RequestInfo) -> Compress {
    let takes = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|clause| {
            let (coding, rest) = clause.split_once(';').unwrap_or((clause, ""));
            coding.trim().eq_ignore_ascii_case("gzip").then_some(rest)
        })
        .any(|rest| !matches!(rest.trim(), "q=0" | "q=0.0"));
    if takes && matches!(info.verb, Verb::Get | Verb::List) { Compress::Gzip } else { Compress::No }
}

/// The body's media type, lower case and without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next()?.trim();
    (!media_type.is_empty()).then(|| media_type.to_ascii_lowercase())
}

fn encoding(media_type: &str) -> Option<Encoding> {
    match media_type.to_ascii_lowercase().as_str() {
        "application/json" | "*/*" => Some(Encoding::Json),
        "application/yaml" => Some(Encoding::Yaml),
        _ => None,
    }
}

fn understood(clause: &Clause<'_>, watches: bool) -> Option<ObjectFormat> {
    let encoding = encoding(clause.media_type)?;
    if clause.parameter("stream").is_some_and(|stream| stream != "watch" || !watches) {
        return None;
    }
    if clause.parameter("charset").is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return None;
    }
    let shape = match clause.parameter("as") {
        None => Shape::Object,
        Some(kind) => transformed(kind, clause)?,
    };
    Some(ObjectFormat { encoding, shape, pretty: clause.parameter("pretty") == Some("1") })
}

fn transformed(kind: &str, clause: &Clause<'_>) -> Option<Shape> {
    if clause.parameter("g") != Some("meta.k8s.io") {
        return None;
    }
    let version = match clause.parameter("v")? {
        "v1" => MetaVersion::V1,
        "v1beta1" => MetaVersion::V1Beta1,
        _ => return None,
    };
    match kind {
        "Table" => Some(Shape::Table { version, include: Include::default() }),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Shape::Metadata { version }),
        _ => None,
    }
}

fn include_object(query: &Query) -> Result<Include, Status> {
    match query.get("includeObject") {
        None | Some("" | "Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => {
            let error =
                FieldError::invalid("includeObject", other, "must be 'Metadata', 'Object', 'None', or empty");
            Err(Status::bad_request(format!("Unable to convert to Table as requested: {error}")))
        }
    }
}

fn not_acceptable(streams: bool) -> Status {
    let mut offered = "application/json, application/yaml".to_owned();
    if streams {
        offered.push_str(", application/json;stream=watch");
    }
    let message = format!("406: Not Acceptable\n\nAvailable representations: {offered}");
    let mut status = Status::failure(406, "NotAcceptable", message);
    status.details = Some(Box::new(Details::default()));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Method};

    fn format(accept: &str, uri: &str) -> Result<ObjectFormat, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        let (path, query) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
        resource_format(&headers, &RequestInfo::parse(&Method::GET, path, query)).map_err(|s| s.code)
    }

    const LIST: &str = "/api/v1/pods";
    const TABLES: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
        application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

    #[test]
    fn what_clients_send_is_understood() {
        let json = ObjectFormat::default();
        let yaml = ObjectFormat { encoding: Encoding::Yaml, ..json };
        let table =
            |include| ObjectFormat { shape: Shape::Table { version: MetaVersion::V1, include }, ..json };
        let metadata = ObjectFormat { shape: Shape::Metadata { version: MetaVersion::V1 }, ..json };
        let table: &[(&str, &str, Result<ObjectFormat, u16>)] = &[
            ("", LIST, Ok(json)),
            ("*/*", LIST, Ok(json)),
            ("application/json", LIST, Ok(json)),
            ("application/yaml", LIST, Ok(yaml)),
            ("application/vnd.kubernetes.protobuf,application/json", LIST, Ok(json)),
            ("application/vnd.kubernetes.protobuf", LIST, Err(406)),
            ("application/*", LIST, Err(406)),
            ("text/csv", LIST, Err(406)),
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", LIST, Ok(json)),
            ("application/json;q=0.1, application/yaml", LIST, Ok(yaml)),
            (TABLES, LIST, Ok(table(Include::Metadata))),
            (TABLES, "/api/v1/pods?includeObject=Object", Ok(table(Include::Object))),
            (TABLES, "/api/v1/pods?includeObject=Everything", Err(400)),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", LIST, Err(406)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", LIST, Ok(metadata)),
            ("application/json;stream=watch", "/api/v1/pods?watch=1", Ok(json)),
            ("application/json;stream=watch", LIST, Err(406)),
            ("application/yaml", "/api/v1/pods?watch=1", Err(406)),
        ];
        for (accept, uri, want) in table {
            assert_eq!(format(accept, uri), *want, "{accept} {uri}");
        }
    }

    #[test]
    fn only_reads_are_compressed() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("deflate, gzip;q=1.0"));
        let info = |method, uri| RequestInfo::parse(&method, uri, None);
        assert_eq!(compression(&headers, &info(Method::GET, LIST)), Compress::Gzip);
        assert_eq!(compression(&headers, &info(Method::POST, LIST)), Compress::No);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip;q=0"));
        assert_eq!(compression(&headers, &info(Method::GET, LIST)), Compress::No);
    }

    #[test]
    fn content_types_lose_their_parameters() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("Application/JSON; charset=utf-8"));
        assert_eq!(content_type(&headers).as_deref(), Some("application/json"));
    }
}
