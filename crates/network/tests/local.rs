//! Pods of one node: addresses, ports, streams, names, and the node's own dials.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};

use coracle_network::{AttachSpec, Config, Error, Fabric, PodNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn fabric() -> Fabric {
    let fabric = Fabric::new(Config::new("node-a", ip("127.0.0.1"))).unwrap();
    fabric.set_pod_cidr("10.128.0.0/18".parse().unwrap());
    fabric
}

fn attach(fabric: &Fabric, name: &str) -> PodNet {
    fabric
        .attach(AttachSpec {
            sandbox_id: name.to_owned(),
            namespace: "default".to_owned(),
            pod_name: name.to_owned(),
            hostname: name.to_owned(),
            address: None,
        })
        .unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn pods_talk_and_half_close() {
    let fabric = fabric();
    let (server, client) = (attach(&fabric, "server"), attach(&fabric, "client"));
    let mut listener = server.listen(None, 80).unwrap();
    let mut out = client.connect((server.ip(), 80).into()).await.unwrap();
    let mut accepted = listener.accept().await.unwrap();
    assert_eq!(accepted.peer_addr().ip(), client.ip());
    assert_eq!(accepted.peer_addr(), out.local_addr());
    assert_eq!(accepted.local_addr(), SocketAddr::new(server.ip(), 80));

    out.write_all(b"hello").await.unwrap();
    out.shutdown().await.unwrap();
    let mut text = String::new();
    accepted.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    accepted.write_all(b"bye").await.unwrap();
    drop(accepted);
    text.clear();
    out.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "bye");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let fabric = fabric();
    let (server, client) = (attach(&fabric, "server"), attach(&fabric, "client"));
    let connect = |to: &str| {
        let to: SocketAddr = to.parse().unwrap();
        let client = client.clone();
        async move { client.connect(to).await.map(|stream| stream.peer_addr()) }
    };
    let nobody = SocketAddr::new(server.ip(), 81).to_string();
    assert!(matches!(connect(&nobody).await, Err(Error::ConnectionRefused(_))));
    assert!(matches!(connect("10.128.0.99:80").await, Err(Error::Unreachable { .. })));
    assert!(matches!(connect("10.0.0.1:443").await, Err(Error::Unreachable { .. })));
    assert!(matches!(connect("127.0.0.1:80").await, Err(Error::ConnectionRefused(_))));
    assert!(matches!(connect("169.254.169.254:80").await, Err(Error::AccessDenied { .. })));
    assert!(matches!(connect("93.184.216.34:80").await, Err(Error::AccessDenied { .. })));
    assert!(matches!(fabric.dial(ip("127.0.0.1"), 22).await, Err(Error::AccessDenied { .. })));
}

#[tokio::test]
async fn each_pod_has_its_own_loopback() {
    let fabric = fabric();
    let (one, two) = (attach(&fabric, "one"), attach(&fabric, "two"));
    let mut listener = one.listen(Some(ip("127.0.0.1")), 80).unwrap();
    assert!(two.connect("127.0.0.1:80".parse().unwrap()).await.is_err());
    assert!(two.connect((one.ip(), 80).into()).await.is_err(), "loopback only");
    let out = one.connect("0.0.0.0:80".parse().unwrap()).await.unwrap();
    assert_eq!(out.peer_addr(), "127.0.0.1:80".parse().unwrap());
    assert!(listener.accept().await.unwrap().peer_addr().ip().is_loopback());

    let mut v6 = one.listen(Some(ip("::1")), 80).unwrap();
    one.connect("[::1]:80".parse().unwrap()).await.unwrap();
    assert_eq!(v6.accept().await.unwrap().local_addr(), "[::1]:80".parse().unwrap());
}

#[tokio::test]
async fn ports_are_taken_and_freed() {
    let fabric = fabric();
    let pod = attach(&fabric, "pod");
    let listener = pod.listen(None, 80).unwrap();
    assert!(matches!(pod.listen(None, 80), Err(Error::AddressInUse(_))));
    assert!(matches!(pod.listen(Some(ip("1.2.3.4")), 80), Err(Error::AddressNotAvailable(_))));
    drop(listener);
    let bound = pod.bind(ip("0.0.0.0"), 0).unwrap();
    assert!(bound.local_addr().port() >= 32768);
    let mut listener = pod.listen(None, 80).unwrap();
    let out = bound.connect((pod.ip(), 80).into()).await.unwrap();
    assert_eq!(listener.accept().await.unwrap().peer_addr().port(), out.local_addr().port());
}

#[tokio::test]
async fn a_full_backlog_waits_and_a_closed_listener_resets() {
    let fabric = fabric();
    let (server, client) = (attach(&fabric, "server"), attach(&fabric, "client"));
    let to = SocketAddr::new(server.ip(), 80);
    let mut listener = server.bind(ip("0.0.0.0"), 80).unwrap().listen(1).unwrap();
    let mut first = client.connect(to).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.connect(to).await }
    });
    listener.accept().await.unwrap();
    let mut second = waiting.await.unwrap().unwrap();
    second.write_all(b"x").await.unwrap();
    drop(listener);
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "accepted, then dropped");
    assert!(second.read(&mut [0]).await.is_err(), "reset with unread input");
    assert!(matches!(client.connect(to).await, Err(Error::ConnectionRefused(_))));
}

#[tokio::test]
async fn leaving_frees_the_address_and_ends_listeners() {
    let fabric = fabric();
    let (server, client) = (attach(&fabric, "server"), attach(&fabric, "client"));
    let mut listener = server.listen(None, 80).unwrap();
    server.detach();
    assert!(matches!(listener.accept().await, Err(Error::Detached)));
    assert!(matches!(server.listen(None, 81), Err(Error::Detached)));
    assert!(matches!(server.connect((client.ip(), 80).into()).await, Err(Error::Detached)));
    assert!(client.connect((server.ip(), 80).into()).await.is_err());
    let spec =
        AttachSpec { sandbox_id: "again".to_owned(), address: Some(server.ip()), ..AttachSpec::default() };
    let again = fabric.attach(spec.clone()).unwrap();
    assert_eq!(again.ip(), server.ip());
    server.detach();
    assert!(matches!(fabric.attach(spec), Err(Error::SandboxExists(_))), "still attached");
}

#[tokio::test]
async fn the_node_dials_pods_and_their_loopback() {
    let fabric = fabric();
    let pod = attach(&fabric, "pod");
    let mut listener = pod.listen(None, 80).unwrap();
    fabric.dial(pod.ip(), 80).await.unwrap();
    assert_eq!(listener.accept().await.unwrap().peer_addr().ip(), ip("10.128.0.1"));
    fabric.dial_sandbox("pod", 80).await.unwrap();
    assert!(listener.accept().await.unwrap().peer_addr().ip().is_loopback());
    assert!(matches!(fabric.dial_sandbox("nope", 80).await, Err(Error::SandboxUnknown(_))));
}

#[tokio::test]
async fn a_node_without_a_pod_range_attaches_nobody() {
    let fabric = Fabric::new(Config::new("node-a", ip("127.0.0.1"))).unwrap();
    assert!(matches!(fabric.attach(AttachSpec::default()), Err(Error::NoPodCidr)));
}

#[tokio::test]
async fn a_pod_knows_itself_by_name() {
    let fabric = fabric();
    let pod = attach(&fabric, "pod");
    assert_eq!(pod.lookup("pod").await.unwrap(), [pod.ip()]);
    assert_eq!(pod.lookup("LOCALHOST.").await.unwrap()[0], ip("127.0.0.1"));
    assert_eq!(pod.lookup("10.9.8.7").await.unwrap(), [ip("10.9.8.7")]);
    for unknown in ["nope", "example.org", "", "."] {
        assert!(matches!(pod.lookup(unknown).await, Err(Error::NameNotFound(_))), "{unknown}");
    }
}
