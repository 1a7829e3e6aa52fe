//! Which objects of a kind a list, watch or deletecollection means.

use coracle_api::selector::{FieldSelector, LabelSelector};
use coracle_api::status::Status;

use crate::cache::{Object, Place, Scope};
use crate::registry::index::Row;
use crate::request::ListOptions;

/// A place and two selectors.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// Where to look.
    pub(super) place: Place,
}

impl Selection {
    /// Everything in `place`.
    pub(super) fn everything(place: Place) -> Self {
        Self { labels: LabelSelector::everything(), fields: FieldSelector::default(), place }
    }

    /// What a call's options say. `namespace` and `name` are those of the path.
    ///
    /// # Errors
    /// 400 for selectors that cannot be parsed and fields that the kind does not offer.
    pub(super) fn new(
        row: &Row,
        namespace: Option<&str>,
        name: Option<&str>,
        options: &ListOptions,
    ) -> Result<Self, Status> {
        let labels = match &options.label_selector {
            Some(text) => LabelSelector::parse(text).map_err(Status::bad_request)?,
            None => LabelSelector::everything(),
        };
        let fields = match &options.field_selector {
            Some(text) => FieldSelector::parse(text).map_err(Status::bad_request)?,
            None => FieldSelector::default(),
        };
        check_fields(row, &fields)?;
        let place = place(row, namespace, name, &fields);
        Ok(Self { labels, fields, place })
    }

    /// Whether it takes every object of its place.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether it takes an object of its place.
    pub(super) fn matches(&self, object: &Object) -> bool {
        (self.labels.is_everything() || self.labels.matches(&object.facts.labels))
            && (self.fields.is_everything()
                || self.fields.matches_with(|field| match field {
                    "metadata.name" => Some(object.name()),
                    "metadata.namespace" => Some(object.namespace()),
                    field => object.facts.field(field),
                }))
    }

    /// Of which changes a watch must hear.
    pub(super) fn scope(&self) -> Scope {
        match (&self.place, self.fields.exact(crate::cache::INDEXED_FIELD)) {
            (Place::Object(tail), _) => Scope::Object(tail.as_str().into()),
            (_, Some(value)) => Scope::Field(value.into()),
            (Place::Namespace(namespace), None) => Scope::Namespace(namespace.as_str().into()),
            (Place::All, None) => Scope::All,
        }
    }

    /// Whether an object lies in the place.
    pub(super) fn contains(&self, object: &Object) -> bool {
        match &self.place {
            Place::All => true,
            Place::Namespace(namespace) => object.namespace() == namespace,
            Place::Object(tail) => **object.tail() == **tail,
        }
    }
}

fn check_fields(row: &Row, fields: &FieldSelector) -> Result<(), Status> {
    if fields.is_everything() {
        return Ok(());
    }
    let own = row.stored.field_names();
    let mut known = vec!["metadata.name", "metadata.namespace"];
    known.extend(own.iter().map(|name| &**name));
    for term in &fields.terms {
        if !known.contains(&term.field.as_str()) {
            return Err(Status::bad_request(if own.is_empty() {
                format!(
                    "{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                    term.field
                )
            } else {
                format!("field label not supported: {}", term.field)
            }));
        }
    }
    Ok(())
}

fn place(row: &Row, namespace: Option<&str>, name: Option<&str>, fields: &FieldSelector) -> Place {
    let name = name.or_else(|| fields.exact("metadata.name")).filter(|name| !name.is_empty());
    if !row.resource.is_namespaced() {
        return name.map_or(Place::All, |name| Place::Object(name.to_owned()));
    }
    let namespace = namespace.or_else(|| fields.exact("metadata.namespace")).filter(|ns| !ns.is_empty());
    match (namespace, name) {
        (Some(namespace), Some(name)) => Place::Object(format!("{namespace}/{name}")),
        (Some(namespace), None) => Place::Namespace(namespace.to_owned()),
        (None, _) => Place::All,
    }
}
