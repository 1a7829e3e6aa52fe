//! Commands: arguments, environment, files, exit codes, logs.

use coracle_cri::runtime::v1::*;

use crate::support::{Node, container, with_mount};

#[tokio::test(flavor = "multi_thread")]
async fn arguments_environment_and_exit_code() {
    let node = Node::start().await;
    let pod = node.sandbox("pod-1").await;
    let mut config = container("cli", &["args", "env", "err:oops", "exit:42", "echo:never"]);
    config.command = vec!["/bin/cli".to_owned()];
    config.working_dir = "/work".to_owned();
    config.envs.push(KeyValue { key: "COLOUR".to_owned(), value: "blue=green".to_owned() });
    let status = pod.complete(config).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (42, "Error"));
    assert!(status.started_at >= status.created_at && status.finished_at >= status.started_at);
    let mut log = pod.log("cli");
    // The two streams are in order within themselves.
    let error = log.iter().position(|line| line == "stderr F oops").unwrap();
    log.remove(error);
    let expected = [
        "/bin/cli",
        "args",
        "env",
        "err:oops",
        "exit:42",
        "echo:never",
        "COLOUR=blue=green",
        "HOSTNAME=pod-1",
        "PWD=/work",
    ];
    assert_eq!(log, expected.map(|line| format!("stdout F {line}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_completed() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let status = pod.complete(container("cli", &["lines:1000"])).await;
    assert_eq!((status.exit_code, status.reason.as_str(), status.message.as_str()), (0, "Completed", ""));
    let log = pod.log("cli");
    assert_eq!(log.len(), 1000);
    assert_eq!(log[999], "stdout F line 999");
    let stdin = pod.complete(ContainerConfig {
        metadata: Some(ContainerMetadata { name: "cli".to_owned(), attempt: 1 }),
        ..container("cli", &["stdin", "exit:3"])
    });
    assert_eq!(stdin.await.exit_code, 3, "standard input is at its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_mounted_directories() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let (data, config_map) = (node.path("data"), node.path("config"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(config_map.join("..v1")).unwrap();
    std::fs::write(config_map.join("..v1/key"), "value\n").unwrap();
    std::os::unix::fs::symlink("..v1", config_map.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/key", config_map.join("key")).unwrap();
    let steps =
        ["cat:/etc/config/key", "write:/data/out=hello", "append:/data/out=!", "cat:/data/out", "ls:/data"];
    let config = with_mount(container("cli", &steps), &data, "/data", false);
    let config = with_mount(config, &config_map, "/etc/config", true);
    let status = pod.complete(config).await;
    assert_eq!(status.exit_code, 0, "{:?}", pod.log("cli"));
    assert_eq!(pod.log("cli"), ["stdout F value", "stdout F hello!out"]);
    assert_eq!(std::fs::read_to_string(data.join("out")).unwrap(), "hello!");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_the_host_is_not_there() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let data = node.path("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(node.path("secret"), "s").unwrap();
    std::os::unix::fs::symlink(node.path("secret"), data.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", data.join("relative")).unwrap();
    let steps = [
        "cat:/data/absolute",
        "cat:/data/relative",
        "cat:/data/../secret",
        "cat:/etc/passwd",
        "cat:/proc/self/environ",
        "write:/data/new=x",
        "rm:/data/absolute",
        "ls:/",
    ];
    for (attempt, step) in steps.iter().enumerate() {
        let mut config = with_mount(container("cli", &[step]), &data, "/data", true);
        config.metadata.as_mut().unwrap().attempt = u32::try_from(attempt).unwrap();
        let status = pod.complete(config).await;
        assert_eq!(status.exit_code, 1, "{step}: {:?}", pod.log("cli"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_files() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    std::fs::write(node.path("hosts"), "127.0.0.1 localhost\n").unwrap();
    std::fs::write(node.path("message"), "").unwrap();
    let steps = ["cat:/etc/hosts", "write:/dev/termination-log=all well", "write:/etc/hosts=x"];
    let config = with_mount(container("cli", &steps), &node.path("hosts"), "/etc/hosts", true);
    let config = with_mount(config, &node.path("message"), "/dev/termination-log", false);
    let status = pod.complete(config).await;
    assert_eq!(status.exit_code, 1, "the last step may not succeed");
    assert_eq!(pod.log("cli")[0], "stdout F 127.0.0.1 localhost");
    assert_eq!(std::fs::read_to_string(node.path("message")).unwrap(), "all well");
    assert_eq!(std::fs::read_to_string(node.path("hosts")).unwrap(), "127.0.0.1 localhost\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_have_names_and_places() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let cases = [
        ("unreachable", "wasm trap: wasm `unreachable` instruction executed"),
        ("stack", "wasm trap: call stack exhausted"),
        ("memory", "wasm trap: out of bounds memory access"),
        ("panic", "wasm trap: wasm `unreachable` instruction executed"),
    ];
    for (attempt, (kind, trap)) in cases.into_iter().enumerate() {
        let mut config = container("crash", &[kind]);
        config.metadata.as_mut().unwrap().attempt = u32::try_from(attempt).unwrap();
        let status = pod.complete(config).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (139, "Error"), "{kind}");
        assert!(status.message.starts_with(trap), "{kind}: {}", status.message);
        assert!(status.message.contains("!crash::"), "{kind}: {}", status.message);
    }
    assert!(pod.log("crash").contains(&"stderr F about to crash: stack".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_on_after_it_was_rotated() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    let id = pod.run(container("cli", &["echo:before", "sleep:600", "echo:after"])).await;
    let log = std::path::PathBuf::from(node.status(&id).await.log_path);
    while pod.log("cli").is_empty() {
        tokio::task::yield_now().await;
    }
    std::fs::rename(&log, log.with_extension("old")).unwrap();
    let request = ReopenContainerLogRequest { container_id: id.clone() };
    node.runtime.clone().reopen_container_log(request.clone()).await.unwrap();
    node.exited(&id).await;
    assert_eq!(pod.log("cli"), ["stdout F after"]);
    assert!(node.runtime.clone().reopen_container_log(request).await.is_err());
}
