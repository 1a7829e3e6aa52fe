"""A user's session with the official Python client: list, create, watch, read, patch, delete.

Reads the cluster from KUBECONFIG; exits with 0 only if everything was as expected.
"""
import threading
import time

from kubernetes import client, config, watch

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "py", "labels": {"made-by": "python"}},
    "spec": {
        "restartPolicy": "Never",
        "containers": [
            {"name": "c", "image": "coracle.local/samples/cli:latest", "args": ["echo:from python"]}
        ],
    },
}


def watch_phases(core, version, phases):
    for event in watch.Watch().stream(
        core.list_namespaced_pod,
        "default",
        label_selector="made-by=python",
        resource_version=version,
        timeout_seconds=60,
    ):
        phases.append((event["type"], event["object"].status.phase))
        if event["type"] == "DELETED":
            return


def main():
    config.load_kube_config()
    core, apps = client.CoreV1Api(), client.AppsV1Api()

    names = {n.metadata.name for n in core.list_namespace().items}
    assert {"default", "kube-system"} <= names, names
    assert core.list_node().items, "no nodes"

    version = core.list_namespaced_pod("default").metadata.resource_version
    phases = []
    watcher = threading.Thread(target=watch_phases, args=(core, version, phases), daemon=True)
    watcher.start()

    created = core.create_namespaced_pod("default", POD)
    assert created.metadata.uid and created.spec.restart_policy == "Never"
    deadline = time.monotonic() + 60
    while core.read_namespaced_pod("py", "default").status.phase != "Succeeded":
        assert time.monotonic() < deadline, core.read_namespaced_pod("py", "default").status
        time.sleep(0.05)
    assert core.read_namespaced_pod_log("py", "default") == "from python\n"

    core.patch_namespaced_pod("py", "default", {"metadata": {"labels": {"patched": "yes"}}})
    assert core.read_namespaced_pod("py", "default").metadata.labels["patched"] == "yes"
    core.delete_namespaced_pod("py", "default")
    watcher.join(60)
    assert not watcher.is_alive(), phases
    assert phases[0][0] == "ADDED" and ("MODIFIED", "Succeeded") in phases, phases

    try:
        core.read_namespaced_pod("py", "default")
    except client.ApiException as error:
        assert error.status == 404 and error.reason == "Not Found", error
    else:
        raise AssertionError("the pod is still there")

    assert apps.list_deployment_for_all_namespaces().items == []
    print("ok")


main()
