//! Patches: an object and a patch give an object. Three of the four kinds of Kubernetes are
//! here; the fourth, server-side apply, is in [`crate::managed`].
//!
//! None of them validates: the result is fitted to the schema, defaulted and checked as any
//! other object.

use coracle_api::Status;
use serde_json::Value;

mod json;
mod merge;
mod strategic;

pub use json::json;
pub use merge::merge;
pub use strategic::strategic;

/// The refusal of a body that is no patch at all.
fn undecodable(why: impl std::fmt::Display) -> Status {
    Status::bad_request(format!("error decoding patch: {why}"))
}

/// The refusal of a patch that cannot be done to the object.
fn unprocessable(why: impl std::fmt::Display) -> Status {
    let message = "the server rejected our request due to an error in our request";
    Status::failure(422, "Invalid", message).with_cause("UnexpectedServerResponse", why.to_string(), "")
}

/// Parses a patch body, which is bounded by the limit of request bodies.
pub fn parse(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() { undecodable("unexpected end of JSON input") } else { undecodable(error) }
    })
}

#[cfg(test)]
mod tests;
