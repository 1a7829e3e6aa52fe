//! Reads and watches as clients rely on them.

use anyhow::{Context as _, Result, ensure};
use coracle_testkit::Cluster;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;

fn map(name: &str, label: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"l": label}}, "data": {"k": "v"}}))
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_a_version_misses_and_repeats_nothing() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let start = api
        .create(&PostParams::default(), &map("a", "x"))
        .await?
        .metadata
        .resource_version
        .context("no version")?;
    for i in 0..50 {
        api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": i.to_string()}}))).await?;
    }
    api.delete("a", &DeleteParams::default()).await?;
    let parameters = WatchParams::default().fields("metadata.name=a").timeout(20);
    let mut events = api.watch(&parameters, &start).await?.boxed();
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Modified(m) => seen.push(m.data.unwrap_or_default()["k"].clone()),
            WatchEvent::Deleted(_) => break,
            WatchEvent::Bookmark(_) => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    let wanted: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    ensure!(seen == wanted, "{seen:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_turns_changes_into_arrivals_and_departures() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let start = api
        .create(&PostParams::default(), &map("a", "x"))
        .await?
        .metadata
        .resource_version
        .context("no version")?;
    let relabel = |l: &'static str| Patch::Merge(json!({"metadata": {"labels": {"l": l}}}));
    for l in ["y", "z", "y"] {
        api.patch("a", &PatchParams::default(), &relabel(l)).await?;
    }
    let parameters = WatchParams::default().labels("l=y").timeout(10);
    let mut events = api.watch(&parameters, &start).await?.boxed();
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        kinds.push(match events.try_next().await?.context("watch ended")? {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(e) => anyhow::bail!("{e:?}"),
        });
    }
    ensure!(kinds == ["added", "deleted", "added"], "{kinds:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_list_ends_with_its_bookmark() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    for i in 0..5 {
        api.create(&PostParams::default(), &map(&format!("m{i}"), "s")).await?;
    }
    let config = watcher::Config::default().labels("l=s").streaming_lists();
    let found: Vec<ConfigMap> = watcher(api, config).applied_objects().take(5).try_collect().await?;
    ensure!(found.len() == 5);
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_in_pages_is_one_consistent_list() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    for i in 0..25 {
        api.create(&PostParams::default(), &map(&format!("m{i:02}"), "p")).await?;
    }
    let first = api.list(&ListParams::default().labels("l=p").limit(10)).await?;
    let mut names: Vec<String> = first.items.iter().filter_map(|m| m.metadata.name.clone()).collect();
    let mut token = first.metadata.continue_.clone();
    // Written between two pages: must not show, since a list is of one moment.
    api.create(&PostParams::default(), &map("m99", "p")).await?;
    while let Some(next) = token.filter(|t| !t.is_empty()) {
        let page = api.list(&ListParams::default().labels("l=p").limit(10).continue_token(&next)).await?;
        names.extend(page.items.iter().filter_map(|m| m.metadata.name.clone()));
        token = page.metadata.continue_;
    }
    let wanted: Vec<String> = (0..25).map(|i| format!("m{i:02}")).collect();
    ensure!(names == wanted, "{names:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_write_conflicts_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let old = api.create(&PostParams::default(), &map("a", "x")).await?;
    api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "new"}}))).await?;
    let refused = api.replace("a", &PostParams::default(), &old).await;
    ensure!(
        matches!(&refused, Err(kube::Error::Api(s)) if s.code == 409 && s.reason == "Conflict"),
        "{refused:?}"
    );
    ensure!(api.get("a").await?.data.unwrap_or_default()["k"] == "new");
    cluster.stop().await;
    Ok(())
}
