//! Services: cluster addresses, node ports over the real loopback, names, host routes.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener};

use coracle_cri::network::v1::{Endpoint, HostRoute, Protocol, Service, ServicePort, SyncRequest};
use coracle_network::{AttachSpec, Config, Error, Fabric, Listener, PodNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn fabric() -> Fabric {
    let fabric = Fabric::new(Config::new("node-a", ip("127.0.0.1"))).unwrap();
    fabric.set_pod_cidr("10.128.0.0/18".parse().unwrap());
    fabric
}

fn attach(fabric: &Fabric, name: &str) -> PodNet {
    let spec = AttachSpec {
        sandbox_id: name.to_owned(),
        namespace: "default".to_owned(),
        hostname: name.to_owned(),
        ..AttachSpec::default()
    };
    fabric.attach(spec).unwrap()
}

fn endpoint(address: IpAddr) -> Endpoint {
    Endpoint {
        address: address.to_string(),
        port: 8080,
        node: "node-a".to_owned(),
        ready: true,
        serving: true,
        ..Endpoint::default()
    }
}

fn request(generation: u64, node_port: u16, endpoints: Vec<Endpoint>) -> SyncRequest {
    SyncRequest {
        generation,
        cluster_domain: "cluster.local".to_owned(),
        services: vec![Service {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            cluster_ips: vec!["10.0.0.9".to_owned()],
            ports: vec![ServicePort {
                name: "http".to_owned(),
                protocol: Protocol::Tcp.into(),
                port: 80,
                node_port: node_port.into(),
                endpoints,
            }],
            ..Service::default()
        }],
        ..SyncRequest::default()
    }
}

/// Answers every connection with a name and closes it.
fn serve(mut listener: Listener, name: &'static str) {
    tokio::spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            stream.write_all(name.as_bytes()).await.unwrap();
        }
    });
}

async fn ask(pod: &PodNet, to: &str) -> Result<String, Error> {
    let mut stream = pod.connect(to.parse().unwrap()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    Ok(text)
}

/// A port of the host that nobody has; another process could take it, rarely.
fn free_port() -> u16 {
    StdTcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_cluster_address_leads_to_every_ready_endpoint() {
    let fabric = fabric();
    let (one, two) = (attach(&fabric, "one"), attach(&fabric, "two"));
    let client = attach(&fabric, "client");
    serve(one.listen(None, 8080).unwrap(), "one");
    serve(two.listen(None, 8080).unwrap(), "two");
    fabric.sync(&request(1, 0, vec![endpoint(one.ip()), endpoint(two.ip())])).unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(ask(&client, "10.0.0.9:80").await.unwrap());
    }
    answers.sort();
    assert_eq!(answers, ["one", "one", "two", "two"]);
    assert_eq!(ask(&one, "10.0.0.9:80").await.unwrap().len(), 3, "an endpoint may call itself");
    let refused = ask(&client, "10.0.0.9:81").await;
    assert!(matches!(refused, Err(Error::ConnectionRefused(_))));

    fabric.sync(&request(2, 0, Vec::new())).unwrap();
    let refused = ask(&client, "10.0.0.9:80").await;
    assert!(matches!(refused, Err(Error::ConnectionRefused(_))));
}

#[tokio::test]
async fn syncs_replace_and_never_go_back() {
    let fabric = fabric();
    assert_eq!(fabric.sync(&request(5, 0, Vec::new())).unwrap().generation, 5);
    assert_eq!(fabric.sync(&request(5, 0, Vec::new())).unwrap().generation, 5);
    let stale = fabric.sync(&request(4, 0, Vec::new()));
    assert!(matches!(stale, Err(Error::StaleGeneration { offered: 4, current: 5 })));
    let mut broken = request(6, 0, Vec::new());
    broken.services[0].cluster_ips = vec!["nonsense".to_owned()];
    assert!(matches!(fabric.sync(&broken), Err(Error::InvalidRequest(_))));
    assert_eq!(fabric.generation(), 5);
}

#[tokio::test]
async fn a_node_port_serves_the_host_and_closes_again() {
    let fabric = fabric();
    let web = attach(&fabric, "web");
    let mut listener = web.listen(None, 8080).unwrap();
    let port = free_port();
    let synced = fabric.sync(&request(1, port, vec![endpoint(web.ip())])).unwrap();
    assert!(synced.problems.is_empty(), "{:?}", synced.problems);

    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    client.shutdown().await.unwrap();
    let mut accepted = listener.accept().await.unwrap();
    assert_eq!(accepted.peer_addr().ip(), ip("10.128.0.1"), "the node is the source");
    let mut text = String::new();
    accepted.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "ping");
    accepted.write_all(b"pong").await.unwrap();
    drop(accepted);
    text.clear();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "pong");

    fabric.sync(&request(2, 0, vec![endpoint(web.ip())])).unwrap();
    // The accept task closes the socket as soon as it runs.
    while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_node_port_without_endpoints_resets() {
    let fabric = fabric();
    let port = free_port();
    fabric.sync(&request(1, port, Vec::new())).unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert!(client.read(&mut [0]).await.is_err());
}

#[tokio::test]
async fn a_taken_node_port_is_reported_and_retried() {
    let fabric = fabric();
    let squatter = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let port = squatter.local_addr().unwrap().port();
    let synced = fabric.sync(&request(1, port, Vec::new())).unwrap();
    assert_eq!(synced.problems.len(), 1);
    assert_eq!(synced.problems[0].service, "web");
    assert_eq!(synced.problems[0].node_port, u32::from(port));
    drop(squatter);
    assert!(fabric.sync(&request(2, port, Vec::new())).unwrap().problems.is_empty());
}

#[tokio::test]
async fn names_follow_the_sync() {
    let fabric = fabric();
    let pod = attach(&fabric, "pod");
    fabric.sync(&request(1, 0, Vec::new())).unwrap();
    for name in ["web", "web.default", "web.default.svc.cluster.local."] {
        assert_eq!(pod.lookup(name).await.unwrap(), [ip("10.0.0.9")], "{name}");
    }
    let mut headless = request(2, 0, vec![endpoint(pod.ip())]);
    headless.services[0].cluster_ips.clear();
    headless.services[0].ports[0].endpoints[0].hostname = "web-0".to_owned();
    headless.services.push(Service {
        namespace: "default".to_owned(),
        name: "alias".to_owned(),
        external_name: "web.default.svc.cluster.local".to_owned(),
        ..Service::default()
    });
    headless.services.push(Service {
        namespace: "default".to_owned(),
        name: "cycle".to_owned(),
        external_name: "cycle.default.svc.cluster.local".to_owned(),
        ..Service::default()
    });
    fabric.sync(&headless).unwrap();
    for name in ["web", "web-0.web", "alias"] {
        assert_eq!(pod.lookup(name).await.unwrap(), [pod.ip()], "{name}");
    }
    assert!(matches!(pod.lookup("cycle").await, Err(Error::NameNotFound(_))));
}

#[tokio::test]
async fn a_host_route_is_the_way_to_the_master() {
    let fabric = fabric();
    let pod = attach(&fabric, "pod");
    let master = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = request(1, 0, Vec::new());
    request.services[0].ports[0].endpoints.push(Endpoint {
        address: "10.127.255.1".to_owned(),
        port: 6443,
        ready: true,
        ..Endpoint::default()
    });
    request.host_routes.push(HostRoute {
        address: "10.127.255.1".to_owned(),
        port: 6443,
        host_address: master.local_addr().unwrap().to_string(),
    });
    fabric.sync(&request).unwrap();
    for to in ["10.127.255.1:6443", "10.0.0.9:80"] {
        let to: SocketAddr = to.parse().unwrap();
        let mut out = pod.connect(to).await.unwrap();
        assert_eq!(out.peer_addr(), to);
        out.write_all(b"hi").await.unwrap();
        let (mut accepted, _) = master.accept().await.unwrap();
        let mut text = [0; 2];
        accepted.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hi");
    }
    let other_port = pod.connect("10.127.255.1:22".parse().unwrap()).await;
    assert!(matches!(other_port, Err(Error::Unreachable { .. })));
}
