//! What a request asks for, taken apart once: the seam between the front and the registry.
//!
//! [`RequestInfo`] follows kube-apiserver's rules for turning a path and a method into verb,
//! group, version, namespace, resource, subresource and name (including `watch=true`, the
//! old `/watch/` prefix, the subresources of namespaces and trailing slashes). [`Call`] adds
//! what the front has decided about it: who asks, in which form the answer must come, and
//! the body. Nothing here owns state or does I/O.
//!
//! What the front has already done when the registry sees a [`Call`]: authentication,
//! authorization, body limit, negotiation of the answer's form, and the check of `dryRun`,
//! `fieldValidation` and `fieldManager` in the query of writes. Unknown groups never arrive;
//! unknown resources and verbs that a resource lacks are the registry's to refuse.

use bytes::Bytes;
use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use coracle_machinery::decode::FieldValidation;
use http::Method;
use percent_encoding::percent_decode_str;

/// What is to be done, in the words of RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read one object (GET or HEAD).
    Get,
    /// Read a collection.
    List,
    /// Follow a collection or one object.
    Watch,
    /// POST to a collection or a subresource.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// POST to a path that is no resource.
    Post,
    /// PUT to a path that is no resource.
    Put,
    /// HEAD of a path that is no resource.
    Head,
    /// OPTIONS of a path that is no resource.
    Options,
    /// Any other method.
    Other,
}

impl Verb {
    /// The verb as RBAC rules and metrics spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Post => "post",
            Self::Put => "put",
            Self::Head => "head",
            Self::Options => "options",
            Self::Other => "",
        }
    }

    /// Whether the verb changes what is stored (decides which in-flight limit applies).
    #[must_use]
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch | Self::Head | Self::Options)
    }

    fn of_path(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            Method::HEAD => Self::Head,
            Method::OPTIONS => Self::Options,
            _ => Self::Other,
        }
    }

    fn of_resource(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Get,
            Method::POST => Self::Create,
            Method::PUT => Self::Update,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The decoded query string, in the order sent. Lookups take the first of equal names, as
/// the real server's parameter decoding does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// Most parameters that are read from one query string; the rest is ignored. No verb knows
/// more than twenty, and unbounded parsing would be free work for anybody.
pub const QUERY_PARAMETERS_MAX: usize = 256;

impl Query {
    /// Decodes a query string (`+` and percent escapes).
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        Self(
            form_urlencoded::parse(raw.as_bytes())
                .take(QUERY_PARAMETERS_MAX)
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect(),
        )
    }

    /// The first value of a parameter; an empty value counts as present.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// The first value of a parameter unless it is empty.
    #[must_use]
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A boolean parameter: absent is `None`; `false` (any case) and `0` are false;
    /// everything else, also the empty string, is true.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|v| !(v == "0" || v.eq_ignore_ascii_case("false")))
    }

    /// An integer parameter; absent is `None`.
    ///
    /// # Errors
    /// 400 with the wording of Go's number parser when it is not a 64-bit integer.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        raw.parse::<i64>().map(Some).map_err(|error| {
            let why = match error.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    "value out of range"
                }
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing {raw:?}: {why}"))
        })
    }

    /// Every parameter in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// HTTP method.
    pub method: Method,
    /// The path as sent, without query; percent escapes are kept.
    pub path: String,
    /// The query.
    pub query: Query,
    /// Whether the path names a resource (`/api/v1/…`, `/apis/<g>/<v>/…`).
    pub is_resource: bool,
    /// The verb.
    pub verb: Verb,
    /// API group; empty for the core group and for paths that are no resource.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace in the path. For the resource `namespaces` it is the object's own name
    /// (as in kube-apiserver, so that a Role can grant reading its own namespace).
    pub namespace: Option<String>,
    /// Resource, plural and lower case (`pods`); empty for paths that are no resource.
    pub plural: String,
    /// Subresource (`status`, `log`…).
    pub subresource: Option<String>,
    /// Name in the path.
    pub name: Option<String>,
    /// Segments after the subresource (a proxied path), decoded.
    pub rest: Vec<String>,
}

impl RequestInfo {
    /// Takes a request line apart.
    #[must_use]
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Self {
        let mut info = Self {
            method: method.clone(),
            path: path.to_owned(),
            query: Query::parse(query.unwrap_or_default()),
            is_resource: false,
            verb: Verb::of_path(method),
            group: String::new(),
            version: String::new(),
            namespace: None,
            plural: String::new(),
            subresource: None,
            name: None,
            rest: Vec::new(),
        };
        let segments: Vec<String> = path
            .trim_matches('/')
            .split('/')
            .map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned())
            .collect();
        let tail = match segments.first().map(String::as_str) {
            Some("api") if segments.len() >= 3 => {
                info.version.clone_from(&segments[1]);
                &segments[2..]
            }
            Some("apis") if segments.len() >= 4 => {
                info.group.clone_from(&segments[1]);
                info.version.clone_from(&segments[2]);
                &segments[3..]
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = Verb::of_resource(method);
        info.take_resource(tail);
        info.refine_verb();
        info
    }

    /// Reads `[watch/][namespaces/<ns>/]<plural>[/<name>[/<subresource>[/…]]]`.
    fn take_resource(&mut self, tail: &[String]) {
        let mut tail = tail;
        if tail.len() > 1 && tail[0] == "watch" {
            self.verb = Verb::Watch;
            tail = &tail[1..];
        }
        if tail[0] == "namespaces" && tail.len() > 1 {
            self.namespace = Some(tail[1].clone());
            // `namespaces/<ns>/status` and `/finalize` are the namespace's own.
            if tail.len() > 2 && !matches!(tail[2].as_str(), "status" | "finalize") {
                tail = &tail[2..];
            }
        }
        self.plural.clone_from(&tail[0]);
        self.name = tail.get(1).filter(|n| !n.is_empty()).cloned();
        self.subresource = tail.get(2).filter(|s| !s.is_empty()).cloned();
        self.rest = tail.get(3..).unwrap_or_default().to_vec();
    }

    fn refine_verb(&mut self) {
        if self.name.is_some() {
            return;
        }
        self.verb = match self.verb {
            Verb::Get if self.query.flag("watch") == Some(true) => Verb::Watch,
            Verb::Get => Verb::List,
            Verb::Delete => Verb::DeleteCollection,
            verb => verb,
        };
    }

    /// `<group>/<version>`, or the version alone for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `<plural>[/<subresource>]`, as RBAC rules name resources.
    #[must_use]
    pub fn resource_path(&self) -> String {
        match &self.subresource {
            Some(sub) => format!("{}/{sub}", self.plural),
            None => self.plural.clone(),
        }
    }

    /// The name that authorization looks at: the one in the path or, for collections, the
    /// single name that `fieldSelector=metadata.name=<x>` allows.
    #[must_use]
    pub fn authorization_name(&self) -> Option<&str> {
        if self.name.is_some() {
            return self.name.as_deref();
        }
        if !matches!(self.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
            return None;
        }
        self.query
            .get("fieldSelector")?
            .split(',')
            .find_map(|term| {
                let value = term.trim().strip_prefix("metadata.name=")?;
                Some(value.strip_prefix('=').unwrap_or(value))
            })
            .filter(|name| !name.is_empty())
    }

    /// The options of list, watch and deletecollection.
    ///
    /// # Errors
    /// 400 when a number is none.
    pub fn list_options(&self) -> Result<ListOptions, Status> {
        let q = &self.query;
        let text = |name: &str| q.non_empty(name).map(str::to_owned);
        Ok(ListOptions {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            limit: q.integer("limit")?.unwrap_or(0),
            continue_token: text("continue"),
            allow_watch_bookmarks: q.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: q.flag("sendInitialEvents"),
            timeout_s: q.integer("timeoutSeconds")?,
        })
    }
}

/// Options of list, watch and deletecollection as the query states them, not yet judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `labelSelector`.
    pub label_selector: Option<String>,
    /// `fieldSelector`.
    pub field_selector: Option<String>,
    /// `resourceVersion`.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`.
    pub resource_version_match: Option<String>,
    /// `limit`; 0 means all.
    pub limit: i64,
    /// `continue`.
    pub continue_token: Option<String>,
    /// `allowWatchBookmarks`.
    pub allow_watch_bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `timeoutSeconds`, in seconds.
    pub timeout_s: Option<i64>,
}

/// How objects are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
}

impl Encoding {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// What a Table row carries beside its cells (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// Nothing.
    None,
    /// `PartialObjectMetadata`; the default.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// Which version of `meta.k8s.io` a transformed answer is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetaVersion {
    /// `meta.k8s.io/v1`.
    #[default]
    V1,
    /// `meta.k8s.io/v1beta1`.
    V1Beta1,
}

impl MetaVersion {
    /// The `apiVersion`.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// Which view of an object is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// The object itself.
    #[default]
    Object,
    /// A Table, as kubectl prints.
    Table {
        /// Version of the Table.
        version: MetaVersion,
        /// What each row carries.
        include: Include,
    },
    /// `PartialObjectMetadata` (or its list).
    Metadata {
        /// Version of the answer.
        version: MetaVersion,
    },
}

/// The negotiated form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectFormat {
    /// JSON or YAML.
    pub encoding: Encoding,
    /// Object, Table or metadata.
    pub shape: Shape,
    /// Whether JSON is to be indented (`pretty=true`).
    pub pretty: bool,
}

/// A request that may be carried out.
#[derive(Debug, Clone)]
pub struct Call {
    /// What is asked for.
    pub info: RequestInfo,
    /// Who asks (after impersonation).
    pub user: UserInfo,
    /// Form of the answer. The front re-encodes JSON objects as YAML and indents them, so a
    /// registry may ignore `encoding` and `pretty` in everything but watches.
    pub format: ObjectFormat,
    /// Media type of the body, lower case and without parameters; `None` when not sent.
    pub content_type: Option<String>,
    /// `fieldManager`, else the user agent up to its first `/`.
    pub field_manager: String,
    /// `fieldValidation` of writes; `Warn` when not sent.
    pub field_validation: FieldValidation,
    /// `dryRun=All` in the query. A DELETE may also say it in its body.
    pub dry_run: bool,
    /// Why the caller may not create the object, if it is one whose PUT or apply would create it
    /// when it is not there; looked up for such calls only.
    pub create_refusal: Option<Box<Status>>,
    /// `User-Agent`; empty when not sent.
    pub user_agent: String,
    /// The body, at most [`BODY_BYTES_MAX`].
    pub body: Bytes,
}

impl Call {
    /// Lets a PUT or apply create the object that is not there.
    ///
    /// # Errors
    /// 403 when the caller may change objects and not create them.
    pub fn may_create(&self) -> Result<(), Status> {
        self.create_refusal.as_deref().map_or(Ok(()), |status| Err(status.clone()))
    }
}

/// Largest request body, in bytes (kube-apiserver's limit). Beyond it: 413.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
        RequestInfo::parse(&method, path, query)
    }

    #[test]
    fn verbs_follow_method_name_and_watch() {
        let table: [(Method, &str, Verb); 15] = [
            (Method::GET, "/api/v1/pods", Verb::List),
            (Method::GET, "/api/v1/pods?watch=true", Verb::Watch),
            (Method::GET, "/api/v1/pods?watch=", Verb::Watch),
            (Method::GET, "/api/v1/pods?watch=0", Verb::List),
            (Method::GET, "/api/v1/watch/pods", Verb::Watch),
            (Method::GET, "/api/v1/namespaces/a/pods/p", Verb::Get),
            (Method::HEAD, "/api/v1/namespaces/a/pods/p", Verb::Get),
            (Method::GET, "/api/v1/namespaces/a/pods/p?watch=1", Verb::Get),
            (Method::POST, "/api/v1/namespaces/a/pods", Verb::Create),
            (Method::PUT, "/api/v1/namespaces/a/pods/p", Verb::Update),
            (Method::PATCH, "/api/v1/namespaces/a/pods/p", Verb::Patch),
            (Method::DELETE, "/api/v1/namespaces/a/pods/p", Verb::Delete),
            (Method::DELETE, "/api/v1/namespaces/a/pods", Verb::DeleteCollection),
            (Method::POST, "/api/v1/namespaces/a/pods/p/eviction", Verb::Create),
            (Method::POST, "/healthz", Verb::Post),
        ];
        for (method, uri, want) in table {
            assert_eq!(info(method, uri).verb, want, "{uri}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let pod = info(Method::GET, "/api/v1/namespaces/a/pods/p/log");
        assert_eq!((pod.namespace.as_deref(), pod.plural.as_str()), (Some("a"), "pods"));
        assert_eq!((pod.name.as_deref(), pod.subresource.as_deref()), (Some("p"), Some("log")));

        let ns = info(Method::PUT, "/api/v1/namespaces/a/finalize");
        assert_eq!((ns.plural.as_str(), ns.name.as_deref()), ("namespaces", Some("a")));
        assert_eq!((ns.subresource.as_deref(), ns.namespace.as_deref()), (Some("finalize"), Some("a")));

        let all = info(Method::GET, "/api/v1/namespaces");
        assert_eq!((all.plural.as_str(), all.name, all.namespace), ("namespaces", None, None));

        let scale = info(Method::GET, "/apis/apps/v1/namespaces/a/deployments/d/scale");
        assert_eq!((scale.group.as_str(), scale.api_version().as_str()), ("apps", "apps/v1"));
        assert_eq!(scale.resource_path(), "deployments/scale");

        let proxied = info(Method::GET, "/api/v1/namespaces/a/services/s:80/proxy/x/y");
        assert_eq!(proxied.rest, ["x", "y"]);
    }

    #[test]
    fn odd_paths_are_still_understood() {
        assert_eq!(info(Method::GET, "/api/v1/namespaces/a/configmaps/").verb, Verb::List);
        assert_eq!(info(Method::GET, "/api/v1/namespaces/a/configmaps/%63").name.as_deref(), Some("c"));
        assert_eq!(info(Method::GET, "/api/v1/namespaces/a/configmaps/c%00").name.as_deref(), Some("c\0"));
        for path in ["/", "", "/api", "/api/v1/", "/apis/apps/v1", "/API/v1/pods", "/healthz/ping"] {
            assert!(!info(Method::GET, path).is_resource, "{path}");
        }
    }

    #[test]
    fn a_field_selector_of_one_name_is_what_authorization_sees() {
        let one = info(Method::GET, "/api/v1/secrets?fieldSelector=metadata.name%3Ds");
        assert_eq!((one.name.as_deref(), one.authorization_name()), (None, Some("s")));
        let other = info(Method::GET, "/api/v1/secrets?fieldSelector=type%3DOpaque");
        assert_eq!(other.authorization_name(), None);
        let not = info(Method::GET, "/api/v1/secrets?fieldSelector=metadata.name!%3Ds");
        assert_eq!(not.authorization_name(), None);
    }

    #[test]
    fn query_values_are_decoded_and_numbers_checked() {
        let q = Query::parse(
            "labelSelector=a%3Db%2Cc+in+(d)&limit=x&limit=3&timeoutSeconds=99999999999999999999",
        );
        assert_eq!(q.get("labelSelector"), Some("a=b,c in (d)"));
        assert!(q.integer("limit").is_err());
        assert!(q.integer("timeoutSeconds").is_err());
        assert_eq!(q.integer("absent").unwrap(), None);
        assert_eq!(q.all("limit").count(), 2);
    }
}
