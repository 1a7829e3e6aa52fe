//! Copies a log to a reader, as it is or as it grows.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, BufReader, SeekFrom};
use tokio::sync::mpsc;

use super::line::Line;
use super::tail::start_of;
use super::{LogOptions, LogSource};

/// Where the copy goes: a bounded queue, so that a slow reader slows the copy and nothing
/// else.
pub(super) type LogSink = mpsc::Sender<io::Result<Bytes>>;

/// The longest entry that is read as one, in bytes; longer ones are cut.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Bytes collected before they are handed to the reader.
const CHUNK_BYTES: usize = 32 << 10;
/// The pause at the end of a growing log: from the first to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// Copies the log until its end or, when following, until the container's. An error ends up
/// in the sink; a reader that has gone away ends the copy.
pub(crate) async fn copy<F: Fn() -> bool>(source: LogSource<F>, options: LogOptions, sink: LogSink) {
    if let Err(error) = try_copy(source, &options, &sink).await {
        // Nobody is left to tell if this fails.
        let _ = sink.send(Err(error)).await;
    }
}

async fn try_copy<F: Fn() -> bool>(
    source: LogSource<F>,
    options: &LogOptions,
    sink: &LogSink,
) -> io::Result<()> {
    let Some(mut file) = open_first(&source, options).await? else { return Ok(()) };
    if let Some(lines) = options.tail_lines {
        let start = start_of(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut reader = BufReader::new(file);
    let mut out = Out::new(options);
    let mut pause = PAUSE.0;
    loop {
        // Asked before reading: what the container wrote last is then read for certain.
        let running = (source.running)();
        let moved = drain(&mut reader, &mut out, sink).await?;
        if !out.flush(sink).await || out.is_full() {
            return Ok(());
        }
        if let Some(next) = rotated(&source, &reader).await {
            // What was written between the last look and the rotation.
            drain(&mut reader, &mut out, sink).await?;
            out.entry.clear();
            reader = BufReader::new(next);
            continue;
        }
        if !options.follow || !running {
            return Ok(());
        }
        pause = if moved { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = sink.closed() => return Ok(()),
        }
    }
}

/// Opens the log; a container that has only just started may not have one yet.
async fn open_first<F: Fn() -> bool>(
    source: &LogSource<F>,
    options: &LogOptions,
) -> io::Result<Option<File>> {
    loop {
        let running = (source.running)();
        match File::open(&source.path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !options.follow || !running {
                    return Ok(None);
                }
                tokio::time::sleep(PAUSE.1).await;
            }
            other => return other.map(Some),
        }
    }
}

/// Copies what is there now; whether there was anything.
async fn drain(reader: &mut BufReader<File>, out: &mut Out<'_>, sink: &LogSink) -> io::Result<bool> {
    let mut moved = false;
    while !out.is_full() {
        let room = LINE_BYTES_MAX.saturating_sub(out.entry.len() as u64);
        let count = (&mut *reader).take(room).read_until(b'\n', &mut out.entry).await?;
        let complete = out.entry.ends_with(b"\n");
        if !complete && (count as u64) < room {
            // The end for now; the rest of the entry may still come.
            return Ok(moved);
        }
        moved = true;
        out.take_entry();
        if out.chunk.len() >= CHUNK_BYTES && !out.flush(sink).await {
            return Ok(false);
        }
    }
    Ok(moved)
}

/// The file that has taken the place of the one being read, if there is one.
async fn rotated<F>(source: &LogSource<F>, reader: &BufReader<File>) -> Option<File> {
    let ours = reader.get_ref().metadata().await.ok()?;
    let now = tokio::fs::metadata(&source.path).await.ok()?;
    if (ours.dev(), ours.ino()) == (now.dev(), now.ino()) {
        return None;
    }
    File::open(&source.path).await.ok()
}

/// What is on its way to the reader.
struct Out<'a> {
    options: &'a LogOptions,
    /// The entry being read.
    entry: Vec<u8>,
    chunk: Vec<u8>,
    left_bytes: u64,
    /// The last entry was partial: the next one continues its line.
    continued: bool,
}

impl<'a> Out<'a> {
    fn new(options: &'a LogOptions) -> Self {
        Self {
            options,
            entry: Vec::new(),
            chunk: Vec::new(),
            left_bytes: options.limit_bytes.unwrap_or(u64::MAX),
            continued: false,
        }
    }

    fn is_full(&self) -> bool {
        self.left_bytes == 0
    }

    /// Adds the entry just read, if it is wanted.
    fn take_entry(&mut self) {
        let entry = std::mem::take(&mut self.entry);
        let text = entry.strip_suffix(b"\n").unwrap_or(&entry);
        if let Some(line) = Line::parse(text) {
            self.take_line(&line);
        }
        self.entry = entry;
        self.entry.clear();
    }

    fn take_line(&mut self, line: &Line<'_>) {
        let continued = std::mem::replace(&mut self.continued, line.partial);
        if let (Some(since), Some(at)) = (self.options.since, line.written_at())
            && at < since
        {
            return;
        }
        if self.options.timestamps && !continued {
            self.push(line.time.as_bytes());
            self.push(b" ");
        }
        self.push(line.content);
        if !line.partial {
            self.push(b"\n");
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let count = usize::try_from(self.left_bytes).unwrap_or(usize::MAX).min(bytes.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        self.left_bytes -= count as u64;
    }

    /// Hands over what has been collected; false when the reader has gone away.
    async fn flush(&mut self, sink: &LogSink) -> bool {
        if self.chunk.is_empty() {
            return true;
        }
        sink.send(Ok(Bytes::from(std::mem::take(&mut self.chunk)))).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n\
                       2026-01-01T00:00:02Z stderr P two-\n\
                       2026-01-01T00:00:02Z stderr F end\n\
                       not an entry\n\
                       2026-01-01T00:00:03Z stdout F three\n";

    async fn read(path: &Path, options: LogOptions) -> String {
        let (sink, mut chunks) = mpsc::channel(8);
        let source = LogSource { path: path.to_owned(), running: || false };
        copy(source, options, sink).await;
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let base = LogOptions::default;
        assert_eq!(read(&path, base()).await, "one\ntwo-end\nthree\n");
        let tail = LogOptions { tail_lines: Some(1), ..base() };
        assert_eq!(read(&path, tail).await, "three\n");
        let limit = LogOptions { limit_bytes: Some(6), ..base() };
        assert_eq!(read(&path, limit).await, "one\ntw");
        let since = LogOptions { since: Some("2026-01-01T00:00:03Z".parse().unwrap()), ..base() };
        assert_eq!(read(&path, since).await, "three\n");
        let stamps = LogOptions { timestamps: true, tail_lines: Some(4), ..base() };
        assert_eq!(read(&path, stamps).await, "2026-01-01T00:00:02Z two-end\n2026-01-01T00:00:03Z three\n");
        assert_eq!(read(&temp.path().join("none"), base()).await, "");
    }

    #[tokio::test]
    async fn following_sees_growth_rotation_and_the_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:01Z stdout F one\n").unwrap();
        let running = Arc::new(AtomicBool::new(true));
        let (sink, mut chunks) = mpsc::channel(8);
        let flag = Arc::clone(&running);
        let source = LogSource { path: path.clone(), running: move || flag.load(Ordering::SeqCst) };
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let task = tokio::spawn(copy(source, options, sink));
        assert_eq!(chunks.recv().await.unwrap().unwrap(), "one\n");

        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        writeln!(file, "2026-01-01T00:00:02Z stdout F two").unwrap();
        assert_eq!(chunks.recv().await.unwrap().unwrap(), "two\n");

        std::fs::rename(&path, temp.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "2026-01-01T00:00:03Z stdout F three\n").unwrap();
        assert_eq!(chunks.recv().await.unwrap().unwrap(), "three\n");

        running.store(false, Ordering::SeqCst);
        assert!(chunks.recv().await.is_none());
        task.await.unwrap();
    }
}
