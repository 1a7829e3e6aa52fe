//! `caller`: a `wasi:http/proxy` component that fetches a URL, usually a Service by its
//! DNS name, and answers with what it got: `<status> from <url>` and the body.
//!
//! The URL is the query parameter `url`, else the environment variable `TARGET_URL`,
//! else `http://hello/`.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

/// Longest body passed on, in bytes; the rest is dropped.
const BODY_BYTES_MAX: usize = 1 << 20;

wasip2::http::proxy::export!(Caller);

struct Caller;

impl Guest for Caller {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let url = target(&request.path_with_query().unwrap_or_default());
        println!("fetching {url}");
        let (status, text) = match fetch(&url) {
            Ok((status, body)) => (200, format!("{status} from {url}\n{body}")),
            Err(error) => (502, format!("cannot fetch {url}: {error}\n")),
        };
        answer(out, status, &text);
    }
}

fn target(path_with_query: &str) -> String {
    let query = path_with_query.split_once('?').map_or("", |(_, q)| q);
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("url="))
        .map(percent_decoded)
        .or_else(|| std::env::var("TARGET_URL").ok())
        .unwrap_or_else(|| "http://hello/".into())
}

fn fetch(url: &str) -> Result<(u16, String), String> {
    let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let request = OutgoingRequest::new(Fields::new());
    let invalid = |()| "the URL is not valid".to_owned();
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    let pending = outgoing_handler::handle(request, None).map_err(|e| e.to_string())?;
    pending.subscribe().block();
    let response = pending
        .get()
        .ok_or("no answer")?
        .map_err(|()| "the answer was taken twice")?
        .map_err(|e| e.to_string())?;
    Ok((response.status(), read_body(&response)?))
}

fn read_body(response: &IncomingResponse) -> Result<String, String> {
    let body = response
        .consume()
        .map_err(|()| "the body was taken twice")?;
    let stream = body.stream().map_err(|()| "the body was taken twice")?;
    let mut bytes = Vec::new();
    while bytes.len() < BODY_BYTES_MAX {
        match stream.blocking_read(16 * 1024) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(e)) => return Err(e.to_debug_string()),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let headers = Fields::new();
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("taken once");
    // A single blocking write takes at most 4096 bytes.
    for chunk in text.as_bytes().chunks(4096) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
