//! `wasi:sockets` in a guest, over the fabric.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Node, PATIENCE, container};

#[tokio::test(flavor = "multi_thread")]
async fn tcp_echo_serves_many_connections() {
    let node = Node::start().await;
    let pod = node.sandbox("echo").await;
    let id = pod.run(container("tcp-echo", &["7"])).await;
    while pod.log("tcp-echo").is_empty() {
        tokio::task::yield_now().await;
    }
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(pod.dial(7).await);
    }
    for (number, stream) in streams.iter_mut().enumerate().rev() {
        let text = format!("connection {number}");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; text.len()];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, text.as_bytes());
    }
    // More than any buffer holds, and half-closed at the end.
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut reading, mut writing) = tokio::io::split(streams.remove(0));
    let write = async {
        writing.write_all(&sent).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let mut answer = Vec::new();
    let both = async { tokio::join!(write, reading.read_to_end(&mut answer)).1.unwrap() };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(answer == sent, "{} of {} bytes", answer.len(), sent.len());
    node.stop_container(&id, 0).await;
    assert!(node.fabric.dial(pod.ip().await, 7).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_connects_by_name() {
    let node = Node::start().await;
    let echo = node.sandbox("echo").await;
    echo.run(container("tcp-echo", &["9"])).await;
    while echo.log("tcp-echo").is_empty() {
        tokio::task::yield_now().await;
    }
    let ip = echo.ip().await.to_string();
    let client = node.sandbox("client").await;
    let status = client.complete(container("tcp-echo", &["call", &ip, "9", "ahoy"])).await;
    assert_eq!(status.exit_code, 0, "{:?}", client.log("tcp-echo"));
    assert_eq!(client.log("tcp-echo"), [format!("stdout F {ip} is {ip}"), "stdout F ahoy".to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_has_a_reason() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let cases: [(&[&str], &str); 3] = [
        (&["call", "nobody.default.svc", "1", "x"], "NameUnresolvable"),
        (&["call", "127.0.0.1", "1", "x"], "ConnectionRefused"),
        (&["udp"], "NotSupported"),
    ];
    for (attempt, (args, reason)) in cases.into_iter().enumerate() {
        let mut config = container("tcp-echo", args);
        config.metadata.as_mut().unwrap().attempt = u32::try_from(attempt).unwrap();
        assert_eq!(pod.complete(config).await.exit_code, 1);
        let log = pod.log("tcp-echo");
        let name = log.last().unwrap().replace('-', "").to_lowercase();
        assert!(name.contains(&reason.to_lowercase()), "{reason}: {log:?}");
    }
}
