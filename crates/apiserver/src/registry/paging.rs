//! Continue tokens: where a list goes on, and at which revision.
//!
//! A token is base64 of a small JSON object, opaque to clients and bounded. It names the
//! revision of the first page, so that all pages show one state; once that revision is
//! compacted away it is refused with 410, beside a token that goes on at the newest state.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_api::status::Status;
use serde::{Deserialize, Serialize};

/// Longest token that is read, in bytes: a key's longest namespace and name, with room.
const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// What the version field says.
const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Continue {
    /// The revision to read at; `None`: the newest, after the first one was lost.
    pub(super) revision: Option<i64>,
    /// The first tail that belongs to the page.
    pub(super) start: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Continue {
    /// The page after the object at `tail`.
    pub(super) fn after(revision: Option<i64>, tail: &str) -> Self {
        Self { revision, start: format!("{tail}\0") }
    }

    /// The token.
    pub(super) fn encode(&self) -> String {
        let token =
            Token { v: TOKEN_VERSION.to_owned(), rv: self.revision.unwrap_or(-1), start: self.start.clone() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    /// Reads a token.
    ///
    /// # Errors
    /// 400 when it is none of ours.
    pub(super) fn decode(text: &str) -> Result<Self, Status> {
        let bad = |why: &str| {
            Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        };
        if text.len() > TOKEN_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| bad(&e.to_string()))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
        if token.v != TOKEN_VERSION {
            return Err(bad(&format!("server does not recognize this encoded version {:?}", token.v)));
        }
        if token.rv == 0 || token.start.is_empty() {
            return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        Ok(Self { revision: (token.rv > 0).then_some(token.rv), start: token.start })
    }

    /// 410 for a revision that is compacted away, with a token to go on regardless.
    pub(super) fn expired(&self) -> Status {
        let mut status = Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new \
             list without the continue parameter, or use the continue token in this response to retrieve the \
             remainder of the results. Continuing with the provided token results in an inconsistent list - objects \
             that were created, modified, or deleted between the time the first chunk was returned and now may show \
             up in the list.",
        );
        let token = Self { revision: None, start: self.start.clone() }.encode();
        status.metadata.insert("continue".to_owned(), token.into());
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_client() {
        let page = Continue::after(Some(7), "a/b");
        assert_eq!(Continue::decode(&page.encode()).unwrap(), page);
        let lost = Continue { revision: None, start: "x".to_owned() };
        assert_eq!(Continue::decode(&lost.encode()).unwrap(), lost);
    }

    #[test]
    fn what_is_no_token_is_a_bad_request() {
        let other = URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v2","rv":1,"start":"a"}"#);
        for text in ["not-a-token", "{\"rv\":5}", "", &other, &"a".repeat(10_000)] {
            assert_eq!(Continue::decode(text).unwrap_err().code, 400, "{text}");
        }
    }
}
