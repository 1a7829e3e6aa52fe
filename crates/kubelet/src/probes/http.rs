//! HTTP GET probes: any status from 200 to 399 is a success.

use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;

use super::Outcome;
use super::dial::dial;
use crate::shared::Shared;

/// What probes call themselves.
const AGENT: &str = "kube-probe/1.36";

/// Runs the probe against `host:port`.
pub(super) async fn get(shared: &Shared, action: &HTTPGetAction, host: &str, port: u16) -> Outcome {
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let path = format!("{slash}{path}");
    if action.scheme.as_deref() == Some("HTTPS") {
        let message = "HTTPS probes are not supported by this kubelet".to_owned();
        return Outcome::Unknown(message);
    }
    let request = match request(action, host, port, &path) {
        Ok(request) => request,
        Err(error) => return Outcome::Unknown(format!("the probe's request is invalid: {error}")),
    };
    let url = format!("http://{host}:{port}{path}");
    let stream = match dial(&shared.runtime, host, port).await {
        Ok(stream) => stream,
        Err(error) => return error.outcome(&format!("Get \"{url}\": dial tcp {host}:{port}")),
    };
    match send(stream, request).await {
        Ok(status) => judge(status),
        Err(error) => Outcome::Failure(format!("Get \"{url}\": {error}")),
    }
}

async fn send(
    stream: Box<dyn super::dial::Connection>,
    request: Request<Empty<Bytes>>,
) -> Result<StatusCode, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = sender.send_request(request);
    tokio::pin!(exchange);
    tokio::pin!(connection);
    // The body is of no interest: the connection is dropped once the status is known.
    tokio::select! {
        answer = &mut exchange => answer.map(|response| response.status()),
        ended = &mut connection => match ended {
            Ok(()) => exchange.await.map(|response| response.status()),
            Err(error) => Err(error),
        },
    }
}

fn judge(status: StatusCode) -> Outcome {
    if (200..400).contains(&status.as_u16()) {
        Outcome::Success
    } else {
        Outcome::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
    }
}

fn request(
    action: &HTTPGetAction,
    host: &str,
    port: u16,
    path: &str,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::get(path).body(Empty::new())?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(format!("{host}:{port}"))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(header.name.as_str())?;
        // An own User-Agent, Accept or Host takes the place of ours.
        headers.insert(name, HeaderValue::try_from(header.value.as_str())?);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn requests_carry_their_headers() {
        let action: HTTPGetAction = serde_json::from_value(json!({
            "port": 80, "httpHeaders": [{"name": "Host", "value": "x.example"}, {"name": "X-A", "value": "1"}]}))
        .unwrap();
        let request = request(&action, "10.0.0.1", 80, "/healthz?full=1").unwrap();
        assert_eq!(request.uri(), "/healthz?full=1");
        assert_eq!(request.headers()[HOST], "x.example");
        assert_eq!(request.headers()["x-a"], "1");
        assert_eq!(request.headers()[USER_AGENT], "kube-probe/1.36");
    }

    #[tokio::test]
    async fn the_status_decides() {
        for (line, expected) in [
            ("204 No Content", Outcome::Success),
            ("302 Found", Outcome::Success),
            ("503 Busy", Outcome::Failure("HTTP probe failed with statuscode: 503".into())),
        ] {
            let (near, mut far) = tokio::io::duplex(4096);
            let server = tokio::spawn(async move {
                let mut buffer = [0; 1024];
                let _ = far.read(&mut buffer).await.unwrap();
                let answer = format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n");
                far.write_all(answer.as_bytes()).await.unwrap();
                far
            });
            let action: HTTPGetAction = serde_json::from_value(json!({"port": 80})).unwrap();
            let request = request(&action, "10.0.0.1", 80, "/").unwrap();
            let status = send(Box::new(near), request).await.unwrap();
            assert_eq!(judge(status), expected);
            drop(server.await.unwrap());
        }
    }
}
