//! Making a `kube::Client`: over a router in this process, or over the network.
//!
//! In one process a request is a function call: no sockets, no TLS, no header that carries an
//! identity. Who calls is a typed request extension which the API server trusts because nothing
//! that arrived from a socket can set it.

use std::path::Path;

use bytes::Bytes;
use coracle_api::user::UserInfo;
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::{BoxError, Service, ServiceExt as _};

/// The namespace that a client uses when a call names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Why a remote client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig is missing, unreadable or names what it does not hold.
    #[error("kubeconfig {place} cannot be used")]
    Kubeconfig {
        /// The file, or `(inline)`.
        place: String,
        /// What is wrong with it.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// The TLS or HTTP stack refused the configuration.
    #[error("a client for {server} cannot be made")]
    Client {
        /// The server's address.
        server: String,
        /// What is wrong.
        #[source]
        source: Box<kube::Error>,
    },
}

/// A client that calls `service` (an API router) directly, as `user`.
///
/// Must be called inside a tokio runtime. Upgrading requests (exec, attach, port-forward) do not
/// work through it: a bare router has no connection to upgrade.
pub fn in_process<S, B, R>(service: S, user: UserInfo, user_agent: &str) -> kube::Client
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: From<Bytes> + Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let agent = agent_value(user_agent);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (service, user, agent) = (service.clone(), user.clone(), agent.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let body = body.collect_bytes().await.map_err(BoxError::from)?;
            parts.extensions.insert(user);
            parts.headers.insert(USER_AGENT, agent);
            let request = Request::from_parts(parts, B::from(body));
            service.oneshot(request).await.map_err(Into::<BoxError>::into)
        }
    });
    kube::Client::new(service, DEFAULT_NAMESPACE)
}

/// A client of the server that the kubeconfig file's current context names.
///
/// # Errors
/// When the file cannot be read or its credentials cannot be used. The server is not contacted.
pub async fn remote(kubeconfig: &Path, user_agent: &str) -> Result<kube::Client, Error> {
    let place = kubeconfig.display().to_string();
    let read = Kubeconfig::read_from(kubeconfig)
        .map_err(|source| Error::Kubeconfig { place: place.clone(), source })?;
    remote_from(read, place, user_agent).await
}

/// As [`remote`], with the kubeconfig's text in hand.
///
/// # Errors
/// As [`remote`].
pub async fn remote_from_yaml(kubeconfig: &str, user_agent: &str) -> Result<kube::Client, Error> {
    let place = "(inline)".to_owned();
    let read = Kubeconfig::from_yaml(kubeconfig)
        .map_err(|source| Error::Kubeconfig { place: place.clone(), source })?;
    remote_from(read, place, user_agent).await
}

async fn remote_from(kubeconfig: Kubeconfig, place: String, user_agent: &str) -> Result<kube::Client, Error> {
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|source| Error::Kubeconfig { place, source })?;
    config.headers.push((USER_AGENT, agent_value(user_agent)));
    let server = config.cluster_url.to_string();
    kube::Client::try_from(config).map_err(|source| Error::Client { server, source: Box::new(source) })
}

/// A user agent with characters that HTTP refuses becomes `coracle`.
fn agent_value(user_agent: &str) -> HeaderValue {
    HeaderValue::from_str(user_agent).unwrap_or_else(|_| HeaderValue::from_static("coracle"))
}
