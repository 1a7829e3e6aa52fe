//! `wasi:http/outgoing-handler` through the pod's network: names are those that the pod
//! resolves, addresses those that it may reach.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use coracle_network::{Error as NetworkError, PodNet, Stream};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiHttpHooks};

type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Error>;
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Exchange = Box<dyn Future<Output = Result<(Response<Body>, Driver), Error>> + Send>;

/// How long a connection may take where the guest does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the head of a response may take where the guest does not say.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);

/// The guest's way out.
pub(crate) struct OutgoingHttp {
    net: PodNet,
}

impl OutgoingHttp {
    pub(crate) fn new(net: PodNet) -> Self {
        Self { net }
    }
}

impl WasiHttpHooks for OutgoingHttp {
    fn send_request(
        &mut self,
        request: Request<Body>,
        options: Option<RequestOptions>,
        _: Driver,
    ) -> Exchange {
        let net = self.net.clone();
        Box::new(async move {
            let (response, connection) = exchange(&net, request, options).await?;
            let body = response.map(|body| body.map_err(Error::Hyper).boxed_unsync());
            let driver: Driver = Box::new(async move { Ok(connection.await?) });
            Ok((body, driver))
        })
    }
}

async fn exchange(
    net: &PodNet,
    mut request: Request<Body>,
    options: Option<RequestOptions>,
) -> Result<(Response<Incoming>, AbortOnDropJoinHandle<hyper::Result<()>>), Error> {
    if request.uri().scheme() != Some(&Scheme::HTTP) {
        return Err(Error::InternalError(Some(
            "https is not available to guests; use http within the cluster".to_owned(),
        )));
    }
    let authority = request.uri().authority().cloned();
    let authority = authority.ok_or(Error::HttpRequestUriInvalid)?;
    let connect_timeout = options.and_then(|options| options.connect_timeout);
    let stream = tokio::time::timeout(connect_timeout.unwrap_or(CONNECT_TIMEOUT), connect(net, &authority))
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = spawn(connection);

    // To a server, and not a proxy, go path and query alone.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
    let first_byte_timeout = options.and_then(|options| options.first_byte_timeout);
    let response =
        tokio::time::timeout(first_byte_timeout.unwrap_or(FIRST_BYTE_TIMEOUT), sender.send_request(request))
            .await
            .map_err(|_| Error::HttpResponseTimeout)??;
    Ok((response, connection))
}

async fn connect(net: &PodNet, authority: &Authority) -> Result<Stream, Error> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(80);
    let addresses: Vec<IpAddr> = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => net.lookup(host).await.map_err(|error| error_of(&error))?,
    };
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        match net.connect(SocketAddr::new(address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error_of(&error),
        }
    }
    Err(last)
}

fn error_of(error: &NetworkError) -> Error {
    match error {
        NetworkError::ConnectionRefused(_) => Error::ConnectionRefused,
        NetworkError::TimedOut(_) => Error::ConnectionTimeout,
        NetworkError::Unreachable { .. } => Error::DestinationIpUnroutable,
        NetworkError::AccessDenied { .. } => Error::DestinationIpProhibited,
        NetworkError::PortsExhausted(_) => Error::ConnectionLimitReached,
        NetworkError::NameNotFound(_) => {
            Error::DnsError { rcode: Some("NXDOMAIN".to_owned()), info_code: None }
        }
        other => Error::InternalError(Some(other.to_string())),
    }
}
