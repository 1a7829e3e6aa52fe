//! `wasi:http/proxy` components, served by the runtime on the pod's address.

use coracle_cri::runtime::v1::*;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Node, PATIENCE, container, with_memory_limit};

#[tokio::test(flavor = "multi_thread")]
async fn hello_says_which_pod_answered() {
    let node = Node::start().await;
    let pod = node.sandbox("hello-1").await;
    let id = pod.run(container("hello", &[])).await;
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
    let answer = pod.get(8080, "/some/path?x=1").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nHello from hello-1\nGET /some/path?x=1\n"), "{answer}");
    assert_eq!(pod.log("hello"), ["stdout F GET /some/path?x=1"]);
    node.stop_container(&id, 5).await;
    let status = node.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (143, "Error"));
    assert!(node.fabric.dial(pod.ip().await, 8080).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_declared_port_is_served() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let mut config = container("hello", &[]);
    let ports = r#"[{"name":"http","containerPort":80,"protocol":"TCP"}]"#;
    config.annotations.insert("io.kubernetes.container.ports".to_owned(), ports.to_owned());
    pod.run(config.clone()).await;
    assert!(pod.get(80, "/").await.contains("Hello from p"));
    // A second one cannot have it.
    config.metadata.as_mut().unwrap().name = "other".to_owned();
    let other = pod.create(config).await.unwrap();
    let refused = pod.start(&other).await.unwrap_err();
    assert!(refused.message().contains("0.0.0.0:80 is in use"), "{refused}");
    assert_eq!(node.status(&other).await.state(), ContainerState::ContainerCreated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_ends_its_request_and_no_other() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let id = pod.run(container("hello", &[])).await;
    let answer = pod.get(8080, "/trap").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(pod.get(8080, "/").await.contains("Hello"));
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
    let log = pod.log("hello").join("\n");
    assert!(log.contains("stderr F coracle: request failed: wasm trap: wasm `unreachable`"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_through() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    pod.run(container("hello", &[])).await;
    let body = "coracle ".repeat(100_000);
    let mut stream = pod.dial(8080).await;
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: p\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (mut reading, mut writing) = tokio::io::split(&mut stream);
    let write = async {
        writing.write_all(head.as_bytes()).await.unwrap();
        writing.write_all(body.as_bytes()).await.unwrap();
    };
    let read = async {
        let mut answer = Vec::new();
        reading.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = tokio::time::timeout(PATIENCE, async { tokio::join!(write, read) }).await.unwrap();
    // Chunk sizes are between the pieces of the body.
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{}", &text[..200]);
    assert!(text.len() > body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    pod.run(container("hello", &[])).await;
    let io = TokioIo::new(pod.dial(8080).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::get("http://p/h2").body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"Hello from p"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    // Room for some ten instances: the others wait their turn or are shed, and none of
    // that ends the container.
    let id = pod.run(with_memory_limit(container("hello", &[]), 16 << 20)).await;
    let answers = futures::future::join_all((0..200).map(|_| pod.get(8080, "/"))).await;
    let ok = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200")).count();
    assert!(ok > 0);
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_is_refused() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    pod.run(container("hello", &[])).await;
    let answer = pod.http(8080, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = pod.http(8080, "nonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_reaches_a_service_by_name() {
    use coracle_cri::network::v1::{Endpoint, Service, ServicePort, SyncRequest};

    let node = Node::start().await;
    let hello = node.sandbox("hello-1").await;
    hello.run(container("hello", &[])).await;
    let caller = node.sandbox("caller").await;
    caller.run(container("caller", &[])).await;
    let endpoint = Endpoint {
        address: hello.ip().await.to_string(),
        port: 8080,
        node: "node".to_owned(),
        ready: true,
        serving: true,
        ..Default::default()
    };
    let service = Service {
        namespace: "default".to_owned(),
        name: "hello".to_owned(),
        cluster_ips: vec!["10.0.0.10".to_owned()],
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: 1,
            port: 80,
            node_port: 0,
            endpoints: vec![endpoint],
        }],
        ..Default::default()
    };
    let sync = SyncRequest {
        generation: 1,
        cluster_domain: "cluster.local".to_owned(),
        services: vec![service],
        ..Default::default()
    };
    node.fabric.sync(&sync).unwrap();
    for url in ["http://hello/x", "http://hello.default.svc.cluster.local/x", "http://10.0.0.10/x"] {
        let answer = caller.get(8080, &format!("/?url={url}")).await;
        assert!(answer.contains(&format!("200 from {url}\nHello from hello-1\nGET /x\n")), "{answer}");
    }
    let answer = caller.get(8080, "/?url=http://nobody/").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("DnsError"), "{answer}");
    let answer = caller.get(8080, "/?url=http://10.0.0.10:81/").await;
    assert!(answer.contains("cannot fetch"), "{answer}");
    let answer = caller.get(8080, "/?url=https://hello/").await;
    assert!(answer.contains("https is not available"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let id = pod.run(container("hello", &[])).await;
    // A request whose body is not complete keeps its guest waiting.
    let mut stream = pod.dial(8080).await;
    let head = b"POST /echo HTTP/1.1\r\nHost: p\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab";
    stream.write_all(head).await.unwrap();
    let mut first = [0; 64];
    let count = stream.read(&mut first).await.unwrap();
    assert!(first[..count].starts_with(b"HTTP/1.1 200"));
    let finish = async {
        stream.write_all(b"cd").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
    };
    tokio::join!(node.stop_container(&id, 20), finish);
    assert_eq!(node.status(&id).await.exit_code, 143);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_beyond_its_grace() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let id = pod.run(container("hello", &[])).await;
    let mut stream = pod.dial(8080).await;
    let head = b"POST /echo HTTP/1.1\r\nHost: p\r\nContent-Length: 4\r\n\r\nab";
    stream.write_all(head).await.unwrap();
    let mut first = [0; 64];
    assert!(stream.read(&mut first).await.unwrap() > 0);
    node.stop_container(&id, 1).await;
    assert_eq!(node.status(&id).await.exit_code, 137);
}
