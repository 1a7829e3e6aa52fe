//! Sandboxes and containers: states, idempotence, filters, events, and what is not here.

use std::collections::HashMap;

use coracle_cri::runtime::v1::*;
use futures::StreamExt;
use tonic::Code;

use crate::support::{Node, PATIENCE, container};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_addresses_is_not_ready() {
    let store = coracle_images::Store::open(None).unwrap();
    let node = Node::start_in(tempfile::tempdir().unwrap(), store).await;
    let mut runtime = node.runtime.clone();
    let status = runtime.status(StatusRequest { verbose: true }).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    let ready: HashMap<_, _> = conditions.iter().map(|c| (c.r#type.as_str(), c.status)).collect();
    assert_eq!(ready, HashMap::from([("RuntimeReady", true), ("NetworkReady", false)]));
    assert!(status.info.contains_key("objects"));
    let config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: "p".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let request = RunPodSandboxRequest { config: Some(config), ..Default::default() };
    let refused = runtime.run_pod_sandbox(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    // Its name is free for the next attempt.
    assert_eq!(runtime.run_pod_sandbox(request).await.unwrap_err().code(), Code::Unavailable);
    let version = runtime.version(VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("coracle", "v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_stop_and_go_as_often_as_asked() {
    let node = Node::start().await;
    let mut runtime = node.runtime.clone();
    let pod = node.sandbox("p").await;
    let again = RunPodSandboxRequest { config: Some(pod.config.clone()), ..Default::default() };
    assert_eq!(runtime.run_pod_sandbox(again.clone()).await.unwrap_err().code(), Code::AlreadyExists);
    let id = pod.run(container("spin", &[])).await;
    for _ in 0..2 {
        let stop = StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        runtime.stop_pod_sandbox(stop).await.unwrap();
        assert_eq!(node.status(&id).await.exit_code, 137);
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
        let status = runtime.pod_sandbox_status(request).await.unwrap().into_inner();
        assert_eq!(status.status.unwrap().state(), PodSandboxState::SandboxNotready);
    }
    let refused = pod.create(container("cli", &[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for _ in 0..2 {
        let remove = RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        runtime.remove_pod_sandbox(remove).await.unwrap();
    }
    let gone = ContainerStatusRequest { container_id: id, verbose: false };
    assert_eq!(runtime.container_status(gone).await.unwrap_err().code(), Code::NotFound);
    runtime.run_pod_sandbox(again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_go_forward_only() {
    let node = Node::start().await;
    let mut runtime = node.runtime.clone();
    let pod = node.sandbox("p").await;
    let id = pod.create(container("cli", &["exit:0"])).await.unwrap();
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerCreated);
    let taken = pod.create(container("cli", &["exit:0"])).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    pod.start(&id).await.unwrap();
    assert_eq!(pod.start(&id).await.unwrap_err().code(), Code::FailedPrecondition);
    node.exited(&id).await;
    assert_eq!(pod.start(&id).await.unwrap_err().code(), Code::FailedPrecondition);
    node.stop_container(&id, 10).await;
    node.stop_container("absent", 10).await;
    for _ in 0..2 {
        let remove = RemoveContainerRequest { container_id: id.clone() };
        runtime.remove_container(remove).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_their_filters() {
    let node = Node::start().await;
    let mut runtime = node.runtime.clone();
    let first = node.sandbox("first").await;
    let second = node.sandbox("second").await;
    let running = first.run(container("spin", &[])).await;
    let mut labelled = container("cli", &[]);
    labelled.labels.insert("tier".to_owned(), "back".to_owned());
    let created = second.create(labelled).await.unwrap();

    let cases = [
        (ContainerFilter::default(), vec![&running, &created]),
        (ContainerFilter { id: running[..12].to_owned(), ..Default::default() }, vec![&running]),
        (ContainerFilter { pod_sandbox_id: second.id.clone(), ..Default::default() }, vec![&created]),
        (
            ContainerFilter {
                state: Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() }),
                ..Default::default()
            },
            vec![&running],
        ),
        (
            ContainerFilter {
                label_selector: HashMap::from([("tier".to_owned(), "back".to_owned())]),
                ..Default::default()
            },
            vec![&created],
        ),
        (ContainerFilter { id: "absent".to_owned(), ..Default::default() }, vec![]),
    ];
    for (filter, expected) in cases {
        let request = ListContainersRequest { filter: Some(filter.clone()) };
        let listed = runtime.list_containers(request).await.unwrap().into_inner().containers;
        let mut ids: Vec<_> = listed.iter().map(|c| &c.id).collect();
        let mut expected = expected;
        ids.sort();
        expected.sort();
        assert_eq!(ids, expected, "{filter:?}");
        let request = StreamContainersRequest { filter: Some(filter) };
        let stream = runtime.stream_containers(request).await.unwrap().into_inner();
        let streamed: usize =
            stream.map(|message| message.unwrap().containers.len()).fold(0, async |a, b| a + b).await;
        assert_eq!(streamed, expected.len());
    }
    let filter = PodSandboxFilter {
        label_selector: HashMap::from([("app".to_owned(), "second".to_owned())]),
        state: Some(PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() }),
        ..Default::default()
    };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let items = runtime.list_pod_sandbox(request).await.unwrap().into_inner().items;
    assert_eq!(items.iter().map(|item| &item.id).collect::<Vec<_>>(), [&second.id]);

    let stats = runtime.list_container_stats(ListContainerStatsRequest::default()).await.unwrap();
    assert_eq!(stats.into_inner().stats.len(), 1, "of what runs");
    let request = PodSandboxStatsRequest { pod_sandbox_id: first.id.clone() };
    let stats = runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert_eq!(stats.linux.unwrap().containers.len(), 1);
    let metrics = runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await.unwrap();
    assert_eq!(metrics.into_inner().pod_metrics.len(), 2);
    node.stop_container(&running, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_happens() {
    use ContainerEventType::*;
    let node = Node::start().await;
    let mut events =
        node.runtime.clone().get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    let pod = node.sandbox("p").await;
    let id = pod.create(container("cli", &["exit:7"])).await.unwrap();
    pod.start(&id).await.unwrap();
    node.exited(&id).await;
    let remove = RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    node.runtime.clone().remove_pod_sandbox(remove).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 8 {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        let stopped = event.container_event_type() == ContainerStoppedEvent;
        if stopped && event.container_id == id {
            assert_eq!(event.containers_statuses[0].exit_code, 7);
            assert_eq!(event.pod_sandbox_status.as_ref().unwrap().id, pod.id);
        }
        seen.push((event.container_id.clone(), event.container_event_type()));
    }
    let expected = [
        (&pod.id, ContainerCreatedEvent),
        (&pod.id, ContainerStartedEvent),
        (&id, ContainerCreatedEvent),
        (&id, ContainerStartedEvent),
        (&id, ContainerStoppedEvent),
        (&pod.id, ContainerStoppedEvent),
        (&id, ContainerDeletedEvent),
        (&pod.id, ContainerDeletedEvent),
    ];
    assert_eq!(seen, expected.map(|(id, event)| (id.clone(), event)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_says_so() {
    let node = Node::start().await;
    let mut runtime = node.runtime.clone();
    let codes = [
        runtime.exec_sync(ExecSyncRequest::default()).await.unwrap_err(),
        runtime.exec(ExecRequest::default()).await.unwrap_err(),
        runtime.attach(AttachRequest::default()).await.unwrap_err(),
        runtime.port_forward(PortForwardRequest::default()).await.unwrap_err(),
        runtime.checkpoint_container(CheckpointContainerRequest::default()).await.unwrap_err(),
    ];
    for status in codes {
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("not available") || status.message().contains("cannot"));
    }
    let request = RunPodSandboxRequest {
        config: Some(PodSandboxConfig::default()),
        runtime_handler: "runc".to_owned(),
    };
    assert_eq!(runtime.run_pod_sandbox(request).await.unwrap_err().code(), Code::InvalidArgument);
}
