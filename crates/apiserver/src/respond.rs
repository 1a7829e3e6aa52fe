//! Turning answers into HTTP: JSON, YAML, indentation, compression, warnings.
//!
//! Bodies arrive as JSON, in the form that was negotiated; nothing here knows what they mean.

use std::convert::Infallible;
use std::io::{self, Write};

use axum::body::Body;
use bytes::Bytes;
use coracle_api::status::Status;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, stream};
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY,
};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::registry::Reply;
use crate::request::{Encoding, ObjectFormat};

/// Bodies below this size are sent as they are even to clients that take gzip, in bytes:
/// below it compression costs more time than the transfer it saves (kube-apiserver's figure).
const GZIP_BYTES_MIN: usize = 128 * 1024;
/// Longest text of one `Warning` header, in bytes; what is longer is cut.
const WARNING_BYTES_MAX: usize = 1024;
/// Most bytes of all warnings of one answer; later warnings are dropped.
const WARNINGS_BYTES_MAX: usize = 4096;

/// Whether the client takes compressed answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compress {
    /// Send as it is.
    No,
    /// gzip when it is large enough to be worth it.
    Gzip,
}

/// An answer of plain text.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    with_body(code, "text/plain; charset=utf-8", body.into())
}

/// The 404 of a path that nobody serves.
pub(crate) fn page_not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// An answer with a body of the given media type.
pub(crate) fn with_body(code: StatusCode, media_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A value as an object of the negotiated encoding.
pub(crate) fn object(code: StatusCode, value: &impl Serialize, format: ObjectFormat) -> Response<Body> {
    let bytes = match format.encoding {
        Encoding::Json if format.pretty => serde_json::to_vec_pretty(value).map_err(|e| e.to_string()),
        Encoding::Json => serde_json::to_vec(value).map_err(|e| e.to_string()),
        Encoding::Yaml => serde_saphyr::to_string(value).map(String::into_bytes).map_err(|e| e.to_string()),
    };
    match bytes {
        Ok(bytes) => with_body(code, format.encoding.media_type(), Bytes::from(bytes)),
        Err(error) => {
            tracing::error!(%error, "an answer could not be encoded");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be encoded\n")
        }
    }
}

/// A `Status` with its code and, when it names a delay, `Retry-After`.
pub(crate) fn status(status: &Status, format: ObjectFormat) -> Response<Body> {
    let code = StatusCode::from_u16(status.http_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = object(code, status, format);
    let delay = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if delay > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(delay));
    }
    response
}

/// An answer of the registry.
pub(crate) fn reply(reply: Reply, format: ObjectFormat, compress: Compress) -> Response<Body> {
    match reply {
        Reply::Object { code, body, warnings } => {
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
            let mut response = if format.encoding == Encoding::Json && !format.pretty {
                pieces(code, body.len(), body.into_vec(), compress)
            } else {
                match serde_json::from_slice::<Value>(&body.into_bytes()) {
                    Ok(value) => object(code, &value, format),
                    Err(error) => self::status(&Status::internal(error), ObjectFormat::default()),
                }
            };
            warn(&mut response, &warnings);
            response
        }
        Reply::Watch { frames, warnings } => {
            let mut response = Response::new(Body::from_stream(frames.map(Ok::<_, Infallible>)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            warn(&mut response, &warnings);
            response
        }
    }
}

fn pieces(code: StatusCode, length: usize, mut pieces: Vec<Bytes>, compress: Compress) -> Response<Body> {
    if compress == Compress::Gzip && length >= GZIP_BYTES_MIN {
        let mut response = Response::new(gzip(pieces));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        return response;
    }
    if pieces.len() <= 1 {
        return with_body(code, "application/json", pieces.pop().unwrap_or_default());
    }
    let mut response =
        Response::new(Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>))));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// Compresses piece by piece as the connection takes them, so that a large list neither
/// needs a second copy in memory nor holds a worker thread for long.
fn gzip(pieces: Vec<Bytes>) -> Body {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let frames = stream::unfold((pieces.into_iter(), Some(encoder)), |(mut pieces, encoder)| async move {
        let mut encoder = encoder?;
        let Some(piece) = pieces.next() else {
            return Some((encoder.finish().map(Bytes::from), (pieces, None)));
        };
        match encoder.write_all(&piece) {
            Ok(()) => {
                let out = Bytes::from(std::mem::take(encoder.get_mut()));
                Some((Ok::<_, io::Error>(out), (pieces, Some(encoder))))
            }
            Err(error) => Some((Err(error), (pieces, None))),
        }
    });
    Body::from_stream(frames)
}

/// Adds `Warning: 299` headers (RFC 7234 section 5.5) as kubectl prints them.
fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut total = 0;
    for warning in warnings {
        let mut quoted = String::with_capacity(warning.len() + 8);
        for c in warning.chars().filter(|c| !c.is_control()) {
            if quoted.len() >= WARNING_BYTES_MAX {
                break;
            }
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        total += quoted.len();
        if total > WARNINGS_BYTES_MAX {
            return;
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Pieces;
    use flate2::read::GzDecoder;
    use http_body_util::BodyExt;
    use std::io::Read;

    #[tokio::test]
    async fn large_lists_are_compressed_when_asked() {
        let text = "abcdefgh".repeat(GZIP_BYTES_MIN / 4);
        let mut body = Pieces::default();
        body.push(text.as_bytes());
        let answer = |compress| {
            reply(
                Reply::Object { code: 200, body: body.clone(), warnings: vec![] },
                ObjectFormat::default(),
                compress,
            )
        };
        let packed = answer(Compress::Gzip);
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        let bytes = packed.into_body().collect().await.unwrap().to_bytes();
        let mut unpacked = String::new();
        GzDecoder::new(&bytes[..]).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, text);
        assert!(!answer(Compress::No).headers().contains_key(CONTENT_ENCODING));
    }

    #[tokio::test]
    async fn yaml_is_made_of_json() {
        let format = ObjectFormat { encoding: Encoding::Yaml, ..ObjectFormat::default() };
        let answer =
            reply(Reply::object(200, Bytes::from_static(b"{\"a\":{\"b\":1}}")), format, Compress::No);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/yaml");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes.as_ref(), b"a:\n  b: 1\n");
    }

    #[test]
    fn warnings_are_quoted_and_bounded() {
        let mut response = Response::new(Body::empty());
        warn(&mut response, &["say \"x\"\n".to_owned(), "y".repeat(WARNING_BYTES_MAX * 2)]);
        let all: Vec<_> = response.headers().get_all("warning").iter().collect();
        assert_eq!(all[0], "299 - \"say \\\"x\\\"\"");
        assert!(all[1].len() < WARNING_BYTES_MAX + 20);
    }

    #[test]
    fn a_delay_is_also_a_header() {
        let response = status(&Status::too_many_requests("later", 3), ObjectFormat::default());
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (429, &HeaderValue::from(3))
        );
    }
}
