//! `GET /containerLogs/{namespace}/{pod}/{container}`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use coracle_plan::kubelet::backoff::add_seconds;
use coracle_plan::kubelet::{ContainerPhase, ContainerRecord, containers};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::convert::log_path;
use crate::logs::{LogOptions, LogSource, copy};
use crate::pods::{PodEntry, Seen};
use crate::shared::Shared;

/// Chunks on their way to one reader.
const CHUNKS_MAX: usize = 4;

/// Streams a container's log.
pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let options = match options(&query, Timestamp::now()) {
        Ok(options) => options,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let Some(entry) = shared.pods.find(&namespace, &pod) else {
        let text = format!("pod \"{namespace}/{pod}\" not found\n");
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let seen = entry.seen();
    let record = match choose(&seen, &pod, &container, is_true(query.get("previous"))) {
        Ok(record) => record,
        Err((code, text)) => return (code, text).into_response(),
    };
    let path = entry.id.log_dir(&shared.config.log_dir).join(log_path(&record.name, record.attempt));
    let (sink, chunks) = mpsc::channel(CHUNKS_MAX);
    let running = is_running(entry, record.id.clone());
    tokio::spawn(copy(LogSource { path, running }, options, sink));
    let body = Body::from_stream(ReceiverStream::new(chunks));
    ([(header::CONTENT_TYPE, "text/plain")], body).into_response()
}

fn is_running(entry: Arc<PodEntry>, id: String) -> impl Fn() -> bool + Send + 'static {
    move || {
        let seen = entry.seen();
        seen.containers.iter().any(|c| c.id == id && c.state == ContainerPhase::Running)
    }
}

/// The container whose log is wanted.
fn choose<'a>(
    seen: &'a Seen,
    pod: &str,
    container: &str,
    previous: bool,
) -> Result<&'a ContainerRecord, (StatusCode, String)> {
    let known = seen.pod.spec.as_ref().is_some_and(|spec| {
        let mut all = containers(spec);
        all.any(|(_, c)| c.name == container)
    });
    if !known {
        let text = format!("container \"{container}\" is not valid for pod \"{pod}\"\n");
        return Err((StatusCode::BAD_REQUEST, text));
    }
    let mut records: Vec<&ContainerRecord> = seen
        .containers
        .iter()
        .filter(|c| c.name == container && c.state != ContainerPhase::Created)
        .collect();
    records.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
    match (records.get(usize::from(previous)), previous) {
        (Some(record), _) => Ok(*record),
        (None, true) => {
            let text = format!("previous terminated container \"{container}\" in pod \"{pod}\" not found\n");
            Err((StatusCode::BAD_REQUEST, text))
        }
        (None, false) => {
            let why = waiting_reason(seen, container);
            let text = format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}\n");
            Err((StatusCode::BAD_REQUEST, text))
        }
    }
}

fn waiting_reason(seen: &Seen, container: &str) -> String {
    let status = seen.pod.status.as_ref();
    let all = status.into_iter().flat_map(|s| {
        let init = s.init_container_statuses.iter().flatten();
        init.chain(s.container_statuses.iter().flatten())
    });
    let mut waiting = all
        .filter(|s| s.name == container)
        .filter_map(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone());
    waiting.next().unwrap_or_else(|| "ContainerCreating".to_owned())
}

fn options(query: &HashMap<String, String>, now: Timestamp) -> Result<LogOptions, String> {
    let number = |name: &str| match query.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("invalid {name}: {text:?}\n")),
    };
    let since_time = match query.get("sinceTime").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            let parsed = text.parse::<Timestamp>();
            Some(parsed.map_err(|_| format!("invalid sinceTime: {text:?}\n"))?)
        }
    };
    let since_seconds =
        number("sinceSeconds")?.map(|seconds| add_seconds(now, -i64::try_from(seconds).unwrap_or(i64::MAX)));
    Ok(LogOptions {
        follow: is_true(query.get("follow")),
        tail_lines: number("tailLines")?,
        limit_bytes: number("limitBytes")?,
        since: since_seconds.or(since_time),
        timestamps: is_true(query.get("timestamps")),
    })
}

fn is_true(text: Option<&String>) -> bool {
    matches!(text.map(String::as_str), Some("true" | "1" | "True" | "t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let now = Timestamp::from_second(1000).unwrap();
        let parse = |pairs: &[(&str, &str)]| {
            let query = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            options(&query, now)
        };
        let all = parse(&[("follow", "true"), ("tailLines", "5"), ("sinceSeconds", "10")]).unwrap();
        assert!(all.follow && !all.timestamps);
        assert_eq!(all.tail_lines, Some(5));
        assert_eq!(all.since, Some(Timestamp::from_second(990).unwrap()));
        assert!(parse(&[("tailLines", "-1")]).is_err());
        assert!(parse(&[("sinceTime", "yesterday")]).is_err());
    }
}
