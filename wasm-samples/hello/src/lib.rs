//! `hello`: a `wasi:http/proxy` component that says which pod answered.
//!
//! | path | answer |
//! |---|---|
//! | `/trap` | none: this request ends in a trap, and only this one |
//! | `/echo` | the request's body |
//! | any other | `Hello from <HOSTNAME>`, with method and path |

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

wasip2::http::proxy::export!(Hello);

struct Hello;

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".into());
        let method = method_name(&request.method());
        println!("{method} {path}");
        match path.split('?').next() {
            Some("/trap") => std::process::abort(),
            Some("/echo") => echo(request, out),
            _ => {
                let pod = std::env::var("HOSTNAME").unwrap_or_else(|_| "an unnamed pod".into());
                answer(out, &format!("Hello from {pod}\n{method} {path}\n"));
            }
        }
    }
}

fn answer(out: ResponseOutparam, text: &str) {
    let headers = Fields::new();
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let _ = headers.set("content-length", &[text.len().to_string().into_bytes()]);
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("taken once");
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Streams the request's body back, a chunk at a time, so that its size does not matter.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("taken once");
    let input = incoming.stream().expect("taken once");
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let output = body.write().expect("taken once");
    loop {
        match input.blocking_read(4096) {
            Ok(chunk) if output.blocking_write_and_flush(&chunk).is_ok() => {}
            Err(StreamError::Closed) => break,
            _ => return,
        }
    }
    drop(output);
    let _ = OutgoingBody::finish(body, None);
}

fn method_name(method: &Method) -> String {
    match method {
        Method::Get => "GET".into(),
        Method::Head => "HEAD".into(),
        Method::Post => "POST".into(),
        Method::Put => "PUT".into(),
        Method::Delete => "DELETE".into(),
        Method::Connect => "CONNECT".into(),
        Method::Options => "OPTIONS".into(),
        Method::Trace => "TRACE".into(),
        Method::Patch => "PATCH".into(),
        Method::Other(name) => name.clone(),
    }
}
