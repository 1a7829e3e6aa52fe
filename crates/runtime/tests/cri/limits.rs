//! Limits that hold: memory, and time for guests that never yield.

use std::time::{Duration, Instant};

use coracle_cri::runtime::v1::*;

use crate::support::{Node, container, with_memory_limit};

const MEBIBYTE: i64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_oom_killed() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let status = pod.complete(with_memory_limit(container("memhog", &[]), 64 * MEBIBYTE)).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    assert!(status.message.contains("67108864"), "{}", status.message);
    assert!(pod.log("memhog").contains(&"stdout F holding 48 MiB".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_below_what_it_begins_with_is_oom_killed_too() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let status = pod.complete(with_memory_limit(container("cli", &["args"]), 1000)).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_limit_nothing_happens() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let status = pod.complete(with_memory_limit(container("memhog", &["16"]), 64 * MEBIBYTE)).await;
    assert_eq!(status.exit_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_can_be_changed_while_it_runs() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let config = with_memory_limit(container("memhog", &["200"]), 32 * MEBIBYTE);
    let id = pod.create(config).await.unwrap();
    let linux = LinuxContainerResources { memory_limit_in_bytes: 512 * MEBIBYTE, ..Default::default() };
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    node.runtime.clone().update_container_resources(request.clone()).await.unwrap();
    pod.start(&id).await.unwrap();
    let status = node.exited(&id).await;
    assert_eq!(status.exit_code, 0, "{status:?}");
    assert_eq!(status.resources.unwrap().linux.unwrap().memory_limit_in_bytes, 512 * MEBIBYTE);
    assert!(node.runtime.clone().update_container_resources(request).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_never_yields_is_stopped() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    for (attempt, (grace, code)) in [(0, 137), (30, 143)].into_iter().enumerate() {
        let mut config = container("spin", &[]);
        config.metadata.as_mut().unwrap().attempt = u32::try_from(attempt).unwrap();
        let id = pod.run(config).await;
        while pod.log("spin").len() <= attempt {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let begun = Instant::now();
        node.stop_container(&id, grace).await;
        let took = begun.elapsed();
        let status = node.status(&id).await;
        assert_eq!((status.exit_code, status.state()), (code, ContainerState::ContainerExited));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spinning_guests_starve_nobody() {
    let node = Node::start().await;
    let spinners = node.sandbox("spinners").await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut ids = Vec::new();
    for attempt in 0..2 * cores {
        let mut config = container("spin", &[]);
        config.metadata.as_mut().unwrap().attempt = u32::try_from(attempt).unwrap();
        ids.push(spinners.run(config).await);
    }
    let pod = node.sandbox("p").await;
    pod.run(container("hello", &[])).await;
    let begun = Instant::now();
    assert!(pod.get(8080, "/").await.contains("Hello from p"));
    let sleeper = pod.complete(container("cli", &["sleep:10"])).await;
    assert_eq!(sleeper.exit_code, 0);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let request = ContainerStatsRequest { container_id: ids[0].clone() };
    let stats = node.runtime.clone().container_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().usage_bytes.unwrap().value > 0);
    for id in ids {
        node.stop_container(&id, 0).await;
    }
}
