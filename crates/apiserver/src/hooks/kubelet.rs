//! Asking a node's kubelet over mutual TLS.
//!
//! Each question is a connection of its own: logs are rare and long. Owns nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use coracle_api::meta;
use coracle_api::status::Status;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a kubelet may take to accept a connection and start its answer. Beyond it: 500,
/// as for a kubelet that is not there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a kubelet's error text that are passed on; the rest is not read.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Where a kubelet listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    address: IpAddr,
    port: u16,
}

impl Endpoint {
    /// The endpoint that a Node's status tells.
    ///
    /// # Errors
    /// 500 when it tells none.
    pub(super) fn of(node: &Value) -> Result<Self, Status> {
        let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
        let address = addresses
            .into_iter()
            .flatten()
            .find(|a| meta::text(a, "type") == "InternalIP")
            .and_then(|a| meta::text(a, "address").parse().ok());
        let port = node
            .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
            .and_then(Value::as_u64)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0);
        match (address, port) {
            (Some(address), Some(port)) => Ok(Self { address, port }),
            _ => Err(Status::internal(format_args!(
                "node {:?} tells no address of its kubelet",
                meta::name(node)
            ))),
        }
    }

    fn authority(&self) -> String {
        std::net::SocketAddr::new(self.address, self.port).to_string()
    }
}

/// Sends a GET and gives the answer, whatever its status.
///
/// # Errors
/// 500 when the kubelet cannot be reached or believed.
pub(super) async fn get(
    tls: &Arc<rustls::ClientConfig>,
    endpoint: &Endpoint,
    path: &str,
) -> Result<Response<Incoming>, Status> {
    let failed =
        |why: String| Status::internal(format_args!("Get \"https://{}{path}\": {why}", endpoint.authority()));
    match tokio::time::timeout(ANSWER_TIMEOUT, ask(tls.clone(), endpoint, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
    }
}

async fn ask(
    tls: Arc<rustls::ClientConfig>,
    endpoint: &Endpoint,
    path: &str,
) -> Result<Response<Incoming>, String> {
    let dial = |e: std::io::Error| format!("dial tcp {}: {e}", endpoint.authority());
    let stream = TcpStream::connect((endpoint.address, endpoint.port)).await.map_err(dial)?;
    let name = ServerName::IpAddress(endpoint.address.into());
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|e| format!("tls: {e}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        // Ends with the answer's body, or when the reader of that body goes away.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a kubelet ended");
        }
    });
    let request = Request::get(path)
        .header(http::header::HOST, endpoint.authority())
        .body(Body::empty())
        .map_err(|e| e.to_string())?;
    sender.send_request(request).await.map_err(|e| e.to_string())
}

/// The status of an answer that is no success.
pub(super) async fn failure(answer: Response<Incoming>, plural: &str, name: &str) -> Status {
    let code = answer.status();
    let text = match Limited::new(answer.into_body(), ERROR_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim_end().to_owned(),
        Err(error) => error.to_string(),
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            let message =
                format!("the server could not find the requested resource ( {plural} {name}): {text}");
            Status::failure(404, "NotFound", message)
        }
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        other => Status::internal(format_args!("the kubelet answered {other}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_tells_where_its_kubelet_is() {
        let node = json!({"metadata": {"name": "n"}, "status": {
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "127.0.0.2"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}});
        assert_eq!(Endpoint::of(&node).unwrap().authority(), "127.0.0.2:10250");
        assert_eq!(Endpoint::of(&json!({"metadata": {"name": "n"}})).unwrap_err().code, 500);
    }
}
