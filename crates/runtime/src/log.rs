//! A container's log file in the form that kubelets read (KEP "CRI container log
//! format"): `<RFC 3339 time> <stdout|stderr> <F|P> <text>`, where `P` marks a piece of a
//! line that is longer than [`LINE_BYTES_MAX`].
//!
//! Writing is synchronous: a line that a guest has written is in the file, whatever
//! happens to the guest next.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Longest piece of a line in one record, in bytes.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 10;
/// Largest log file, in bytes. Kubelets rotate much earlier; where none does, the file is
/// renamed to `<name>.1` (replacing the one before) and a new one begun, so that a
/// container's logs take no more than twice this.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Bytes that a guest may hand over in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Which of a container's two streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// A container's log. Without a path, lines go nowhere.
#[derive(Debug)]
pub(crate) struct ContainerLog {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Option<OpenFile>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    bytes_max: u64,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl ContainerLog {
    /// Opens, or continues, the file.
    ///
    /// # Errors
    /// When it or its directory cannot be made.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(OpenFile::open).transpose()?;
        let inner = Inner { file, stdout: Vec::new(), stderr: Vec::new(), bytes_max: FILE_BYTES_MAX };
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// Goes on in a new file of the same name, after the old one was renamed.
    ///
    /// # Errors
    /// When it cannot be made; the old one stays open then.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if let Some(open) = &mut inner.file {
            *open = OpenFile::open(&open.path)?;
        }
        Ok(())
    }

    /// Appends what a guest wrote. What is not ended by a newline waits for the rest.
    pub(crate) fn write(&self, source: Source, bytes: &[u8]) {
        let mut inner = self.inner.lock();
        let mut records = Vec::with_capacity(bytes.len() + 64);
        inner.split(source, bytes, &mut records);
        inner.append(&records);
    }

    /// Writes out what still waits for a newline.
    pub(crate) fn finish(&self) {
        let mut inner = self.inner.lock();
        let mut records = Vec::new();
        for source in [Source::Stdout, Source::Stderr] {
            let rest = std::mem::take(inner.partial(source));
            if !rest.is_empty() {
                record(&mut records, source, true, &rest);
            }
        }
        inner.append(&records);
    }
}

impl Inner {
    fn partial(&mut self, source: Source) -> &mut Vec<u8> {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    fn split(&mut self, source: Source, mut bytes: &[u8], records: &mut Vec<u8>) {
        let partial = self.partial(source);
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - partial.len();
            let piece = &bytes[..room.min(bytes.len())];
            match piece.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    partial.extend_from_slice(&piece[..end]);
                    record(records, source, true, partial);
                    partial.clear();
                    bytes = &bytes[end + 1..];
                }
                None => {
                    partial.extend_from_slice(piece);
                    bytes = &bytes[piece.len()..];
                    // A full line that ends exactly here is not a partial one.
                    if partial.len() == LINE_BYTES_MAX && bytes.first() != Some(&b'\n') {
                        record(records, source, false, partial);
                        partial.clear();
                    } else if partial.len() == LINE_BYTES_MAX {
                        record(records, source, true, partial);
                        partial.clear();
                        bytes = &bytes[1..];
                    }
                }
            }
        }
    }

    fn append(&mut self, records: &[u8]) {
        let bytes_max = self.bytes_max;
        let Some(open) = self.file.as_mut().filter(|_| !records.is_empty()) else {
            return;
        };
        let appended = open.rotate_beyond(bytes_max).and_then(|()| open.file.write_all(records));
        match appended {
            Ok(()) => open.bytes += records.len() as u64,
            Err(error) => {
                tracing::warn!(path = %open.path.display(), %error, "container log not written");
            }
        }
    }
}

impl OpenFile {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_path_buf(), file, bytes })
    }

    fn rotate_beyond(&mut self, bytes_max: u64) -> io::Result<()> {
        if self.bytes < bytes_max {
            return Ok(());
        }
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        std::fs::rename(&self.path, older)?;
        *self = Self::open(&self.path)?;
        Ok(())
    }
}

fn record(out: &mut Vec<u8>, source: Source, full: bool, text: &[u8]) {
    let source = match source {
        Source::Stdout => "stdout",
        Source::Stderr => "stderr",
    };
    let tag = if full { 'F' } else { 'P' };
    // Writing to a vector cannot fail.
    let _ = write!(out, "{:.9} {source} {tag} ", jiff::Timestamp::now());
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// What a guest gets as its standard output or error.
#[derive(Debug, Clone)]
pub(crate) struct LogStream {
    log: Arc<ContainerLog>,
    source: Source,
}

impl LogStream {
    pub(crate) fn new(log: Arc<ContainerLog>, source: Source) -> Self {
        Self { log, source }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.log.write(self.source, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file's records without their times.
    fn records(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let (time, rest) = line.split_once(' ').unwrap();
                assert_eq!(time.len(), "2026-01-01T00:00:00.000000000Z".len(), "{time}");
                rest.to_owned()
            })
            .collect()
    }

    #[test]
    fn lines_whole_and_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let log = ContainerLog::open(Some(&path)).unwrap();
        log.write(Source::Stdout, b"one\ntw");
        log.write(Source::Stderr, b"oops\n");
        log.write(Source::Stdout, b"o\n\nlast");
        log.finish();
        assert_eq!(
            records(&path),
            ["stdout F one", "stderr F oops", "stdout F two", "stdout F ", "stdout F last"]
        );
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = ContainerLog::open(Some(&path)).unwrap();
        let mut line = vec![b'x'; 2 * LINE_BYTES_MAX];
        line.push(b'\n');
        log.write(Source::Stdout, &line);
        line.insert(0, b'y');
        log.write(Source::Stdout, &line);
        let tags: Vec<_> = records(&path).iter().map(|r| (r[7..8].to_owned(), r.len() - 9)).collect();
        let full = LINE_BYTES_MAX;
        let expected = [("P", full), ("F", full), ("P", full), ("P", full), ("F", 1)];
        assert_eq!(tags, expected.map(|(tag, len)| (tag.to_owned(), len)));
    }

    #[test]
    fn it_goes_on_after_a_rename_and_rotates_by_itself_when_nobody_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = ContainerLog::open(Some(&path)).unwrap();
        log.write(Source::Stdout, b"old\n");
        std::fs::rename(&path, dir.path().join("0.log.2026")).unwrap();
        log.reopen().unwrap();
        log.write(Source::Stdout, b"new\n");
        assert_eq!(records(&path), ["stdout F new"]);

        log.inner.lock().bytes_max = 10;
        log.write(Source::Stdout, b"newer\n");
        assert_eq!(records(&path), ["stdout F newer"]);
        assert_eq!(records(&dir.path().join("0.log.1")), ["stdout F new"]);
    }

    #[test]
    fn no_path_no_file() {
        ContainerLog::open(None).unwrap().write(Source::Stdout, b"gone\n");
    }
}
