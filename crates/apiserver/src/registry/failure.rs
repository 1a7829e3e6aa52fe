//! Failures of the store and of stored objects as `Status`.

use coracle_api::status::Status;
use coracle_store::Error;

use crate::cache::ReadError;
use crate::registry::envelope::EnvelopeError;
use crate::registry::index::Row;

/// 404 for a resource that the group and version do not have.
pub(super) fn resource_not_found() -> Status {
    Status::no_such_path()
}

/// 404 for an object.
pub(super) fn object_not_found(row: &Row, name: &str) -> Status {
    Status::not_found(&row.resource.group, &row.resource.plural, name)
}

/// 409 for a write that lost a race it may not retry.
pub(super) fn object_modified(row: &Row, name: &str) -> Status {
    Status::modified(&row.resource.group, &row.resource.plural, name)
}

/// A failure of the store. What may or may not have happened is a 500 with the store's
/// words, as from kube-apiserver; what a client may simply try again is a 503.
pub(super) fn store(error: &Error) -> Status {
    match error {
        Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        Error::NoLeader | Error::Closed => Status::service_unavailable(error.to_string()),
        Error::Timeout | Error::LeaderChanged | Error::WatchLagging => Status::timeout(error, RETRY_AFTER_S),
        Error::RequestTooLarge => Status::too_large(format!("limit is {}", coracle_store::REQUEST_BYTES_MAX)),
        _ => without_reason(error.to_string()),
    }
}

/// When to try again after a failure that passes, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// A failure to fill or reach a cache.
pub(super) fn cache(error: &ReadError) -> Status {
    match error {
        ReadError::Store(error) => store(error),
    }
}

/// An object in the store that cannot be read.
pub(super) fn envelope(error: &EnvelopeError) -> Status {
    Status::internal(error)
}

/// A 500 without a reason: what kube-apiserver answers for errors that are no API errors,
/// such as a resourceVersion that is no number.
pub(super) fn without_reason(message: impl Into<String>) -> Status {
    Status::failure(500, "", message)
}

/// 504 for a resourceVersion that the store has not reached.
pub(super) fn too_large_version(asked: i64, current: i64) -> Status {
    Status::timeout(format!("Too large resource version: {asked}, current: {current}"), RETRY_AFTER_S)
        .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
}
