//! Two nodes: streams between their pods over mutual TLS, and who is not let in.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use coracle_cri::network::v1::{Node, SyncRequest};
use coracle_network::{AttachSpec, Config, Error, Fabric, PodNet, TunnelConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Ca {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn issue(ca: &Ca, common_name: &str, dns: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let certificate = params.signed_by(&key, ca).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    (vec![certificate.der().clone()], key)
}

fn roots(ca: &Ca) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    Arc::new(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn client_config(ca: &Ca, (chain, key): Identity) -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca))
        .with_client_auth_cert(chain, key)
        .unwrap()
}

fn tunnel(ca: &Ca, common_name: &str, dns: &str) -> TunnelConfig {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca), provider());
    let (chain, key) = issue(ca, common_name, dns);
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain.clone(), key.clone_key())
        .unwrap();
    TunnelConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        server: Arc::new(server),
        client: Arc::new(client_config(ca, (chain, key))),
    }
}

struct TestNode {
    name: &'static str,
    cidr: &'static str,
    fabric: Fabric,
    pod: PodNet,
    _stop: tokio_util::sync::DropGuard,
}

fn node(ca: &Ca, name: &'static str, cidr: &'static str) -> TestNode {
    node_as(tunnel(ca, &format!("system:node:{name}"), name), name, cidr)
}

fn node_as(tunnel: TunnelConfig, name: &'static str, cidr: &'static str) -> TestNode {
    let mut config = Config::new(name, IpAddr::from([127, 0, 0, 1]));
    config.tunnel = Some(tunnel);
    let fabric = Fabric::new(config).unwrap();
    fabric.set_pod_cidr(cidr.parse().unwrap());
    let spec = AttachSpec { sandbox_id: name.to_owned(), ..AttachSpec::default() };
    let pod = fabric.attach(spec).unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(fabric.clone().run(stop.clone()));
    TestNode { name, cidr, fabric, pod, _stop: stop.drop_guard() }
}

fn introduce(generation: u64, nodes: &[&TestNode]) {
    let request = SyncRequest {
        generation,
        nodes: nodes
            .iter()
            .map(|node| Node {
                name: node.name.to_owned(),
                pod_cidrs: vec![node.cidr.to_owned()],
                tunnel_address: node.fabric.tunnel_address().unwrap().to_string(),
            })
            .collect(),
        ..SyncRequest::default()
    };
    for node in nodes {
        node.fabric.sync(&request).unwrap();
    }
}

#[tokio::test]
async fn pods_of_two_nodes_talk_both_ways() {
    let ca = authority();
    let a = node(&ca, "node-a", "10.128.0.0/18");
    let b = node(&ca, "node-b", "10.128.64.0/18");
    introduce(1, &[&a, &b]);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let mut listener = to.pod.listen(None, 80).unwrap();
        let mut out = from.pod.connect((to.pod.ip(), 80).into()).await.unwrap();
        let mut accepted = listener.accept().await.unwrap();
        assert_eq!(accepted.peer_addr(), out.local_addr());

        let sent = vec![42; 300_000];
        let echo = tokio::spawn(async move {
            let mut all = Vec::new();
            accepted.read_to_end(&mut all).await.unwrap();
            accepted.write_all(&all).await.unwrap();
        });
        out.write_all(&sent).await.unwrap();
        out.shutdown().await.unwrap();
        let mut back = Vec::new();
        out.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, sent);
        echo.await.unwrap();
    }
}

#[tokio::test]
async fn refusals_and_resets_cross_the_tunnel() {
    let ca = authority();
    let a = node(&ca, "node-a", "10.128.0.0/18");
    let b = node(&ca, "node-b", "10.128.64.0/18");
    introduce(1, &[&a, &b]);
    let refused = a.pod.connect((b.pod.ip(), 81).into()).await;
    assert!(matches!(refused, Err(Error::ConnectionRefused(_))), "{refused:?}");
    let missing = a.pod.connect("10.128.64.99:80".parse().unwrap()).await;
    assert!(matches!(missing, Err(Error::Unreachable { .. })), "{missing:?}");

    let mut listener = b.pod.listen(None, 80).unwrap();
    let mut out = a.pod.connect((b.pod.ip(), 80).into()).await.unwrap();
    listener.accept().await.unwrap().abort();
    assert!(out.read(&mut [0]).await.is_err());
}

#[tokio::test]
async fn a_node_that_returns_elsewhere_is_found_again() {
    let ca = authority();
    let a = node(&ca, "node-a", "10.128.0.0/18");
    let b = node(&ca, "node-b", "10.128.64.0/18");
    introduce(1, &[&a, &b]);
    let to = SocketAddr::new(b.pod.ip(), 80);
    let mut listener = b.pod.listen(None, 80).unwrap();
    let mut out = a.pod.connect(to).await.unwrap();
    drop(listener.accept().await.unwrap());
    drop(b);
    // The stream ends with its node, one way or the other.
    let _ = out.read(&mut [0]).await;

    let b = node(&ca, "node-b", "10.128.64.0/18");
    introduce(2, &[&a, &b]);
    let mut listener = b.pod.listen(None, 80).unwrap();
    // The old connection may still be thought alive by the first attempt.
    while a.pod.connect(to).await.is_err() {
        tokio::task::yield_now().await;
    }
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn only_the_node_of_that_name_is_dialled() {
    let ca = authority();
    let a = node(&ca, "node-a", "10.128.0.0/18");
    let other = node_as(tunnel(&ca, "system:node:node-c", "node-b"), "node-b", "10.128.64.0/18");
    introduce(1, &[&a, &other]);
    let _listener = other.pod.listen(None, 80).unwrap();
    let refused = a.pod.connect((other.pod.ip(), 80).into()).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
}

#[tokio::test]
async fn clients_that_are_no_nodes_are_not_let_in() {
    let (ca, stranger) = (authority(), authority());
    let b = node(&ca, "node-b", "10.128.64.0/18");
    for (issuer, common_name) in [(&ca, "someone"), (&stranger, "system:node:node-a")] {
        let client = client_config(&ca, issue(issuer, common_name, "x"));
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let socket = TcpStream::connect(b.fabric.tunnel_address().unwrap()).await.unwrap();
        let served = match connector.connect("node-b".try_into().unwrap(), socket).await {
            Ok(mut session) => session.read(&mut [0; 64]).await.is_ok_and(|count| count > 0),
            Err(_) => false,
        };
        assert!(!served, "{common_name} was served");
    }
}
