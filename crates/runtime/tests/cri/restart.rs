//! What a runtime knows of what ran before it was started.

use coracle_cri::runtime::v1::*;
use coracle_images::{Store, samples};

use crate::support::{Node, container};

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_exited_and_sandboxes_keep_their_addresses() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let ip = pod.ip().await;
    let running = pod.run(container("spin", &[])).await;
    let done = pod.complete(container("cli", &["exit:5"])).await;
    let created = pod.create(container("hello", &[])).await.unwrap();
    let (sandbox_id, config) = (pod.id.clone(), pod.config.clone());

    let (dir, store) = node.stop().await;
    let node = Node::start_in(dir, store).await;
    let lost = node.status(&running).await;
    assert_eq!(lost.state(), ContainerState::ContainerExited);
    assert_eq!((lost.exit_code, lost.reason.as_str()), (255, "Unknown"));
    assert!(lost.finished_at >= lost.started_at);
    assert_eq!(node.status(&done.id).await.exit_code, 5);
    let pod = crate::support::Pod { node: &node, id: sandbox_id, config };
    assert_eq!(pod.ip().await, ip);
    // What had not run can; and the sandbox takes another attempt.
    pod.start(&created).await.unwrap();
    assert!(pod.get(8080, "/").await.contains("Hello from p"));
    let mut again = container("spin", &[]);
    again.metadata.as_mut().unwrap().attempt = 1;
    pod.run(again).await;
    let other = node.sandbox("other").await;
    assert_ne!(other.ip().await, ip);
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_is_taken_from_the_cache() {
    let images = tempfile::tempdir().unwrap();
    let store = Store::open(Some(images.path())).unwrap();
    samples::register(&store).unwrap();
    let node = Node::start_in(tempfile::tempdir().unwrap(), store).await;
    let network_config = Some(NetworkConfig { pod_cidr: "10.128.0.0/18".to_owned() });
    let runtime_config = Some(RuntimeConfig { network_config });
    let request = UpdateRuntimeConfigRequest { runtime_config };
    node.runtime.clone().update_runtime_config(request).await.unwrap();
    // A module that no other test runs, so that it is compiled here.
    let cli = node.store.resolve("coracle.local/samples/cli").unwrap().id;
    let mut module = node.store.module(&cli).unwrap().to_vec();
    module.extend_from_slice(b"\0\x06\x05cache");
    let image = node.store.load(&module, "cached").unwrap();
    let pod = node.sandbox("p").await;
    let mut config = container("cli", &["exit:9"]);
    config.image.as_mut().unwrap().image = "cached".to_owned();
    assert_eq!(pod.complete(config).await.exit_code, 9);
    let code = std::fs::read_dir(images.path().join("code")).unwrap();
    let names: Vec<_> = code.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with(&image.id.to_hex())), "{names:?}");
}
