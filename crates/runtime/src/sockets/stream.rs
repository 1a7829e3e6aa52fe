//! The two halves of a connection as a guest holds them: an input stream and an output
//! stream, each shared with the socket, which may shut it down.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use coracle_network::Stream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Bytes that one read takes from the connection, and one write may hand over. A guest
/// can make the host hold no more than this per direction.
const CHUNK_BYTES: usize = 64 << 10;
/// How long bytes that a guest wrote before it closed may take to leave.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Splits a connection.
pub(super) fn split(stream: Stream) -> (Reader, Writer) {
    let (reading, writing) = tokio::io::split(stream);
    let reader = Reader(Arc::new(Mutex::new(Input::Open { half: reading, ready: Bytes::new() })));
    let writer =
        Writer(Arc::new(Mutex::new(Output::Open(Sending { half: Some(writing), rest: Bytes::new() }))));
    (reader, writer)
}

fn failed(error: io::Error) -> StreamError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => StreamError::Closed,
        _ => StreamError::LastOperationFailed(error.into()),
    }
}

#[derive(Clone)]
pub(super) struct Reader(Arc<Mutex<Input>>);

enum Input {
    Open {
        half: ReadHalf<Stream>,
        ready: Bytes,
    },
    /// To be told to the guest at its next read.
    Failed(io::Error),
    Closed,
}

impl Reader {
    pub(super) fn shut_down(&self) {
        *self.0.lock() = Input::Closed;
    }
}

impl Input {
    /// Ready once a read would tell something: bytes, the end, or an error.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self::Open { half, ready } = self else {
            return Poll::Ready(());
        };
        if !ready.is_empty() {
            return Poll::Ready(());
        }
        let mut chunk = BytesMut::zeroed(CHUNK_BYTES);
        let mut buffer = ReadBuf::new(&mut chunk);
        let polled = Pin::new(half).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if count == 0 => *self = Self::Closed,
            Poll::Ready(Ok(())) => {
                // A copy of the right size: the guest may keep it for long.
                *ready = Bytes::copy_from_slice(&chunk[..count]);
            }
            Poll::Ready(Err(error)) => *self = Self::Failed(error),
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.lock().poll_fill(cx)).await;
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut input = self.0.lock();
        let _ = input.poll_fill(&mut Context::from_waker(Waker::noop()));
        match &mut *input {
            Input::Open { ready, .. } => Ok(ready.split_to(size.min(ready.len()))),
            Input::Closed => Err(StreamError::Closed),
            Input::Failed(_) => match std::mem::replace(&mut *input, Input::Closed) {
                Input::Failed(error) => Err(failed(error)),
                _ => Err(StreamError::Closed),
            },
        }
    }
}

#[derive(Clone)]
pub(super) struct Writer(Arc<Mutex<Output>>);

enum Output {
    Open(Sending),
    /// To be told to the guest at its next write.
    Failed(io::Error),
    Closed,
}

/// The sending half. Dropping it half-closes the connection, after what was written has
/// left.
struct Sending {
    half: Option<WriteHalf<Stream>>,
    rest: Bytes,
}

impl Writer {
    /// Half-closes, after what was written has left.
    pub(super) fn shut_down(&self) {
        *self.0.lock() = Output::Closed;
    }
}

impl Output {
    /// Ready once all that was written has left, or never will.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self::Open(Sending { half: Some(half), rest }) = self else {
            return Poll::Ready(());
        };
        while !rest.is_empty() {
            match Pin::new(&mut *half).poll_write(cx, rest) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) => rest.advance(count),
                Poll::Ready(Err(error)) => {
                    *self = Self::Failed(error);
                    return Poll::Ready(());
                }
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let Some(mut half) = self.half.take() else {
            return;
        };
        let mut rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            let _ = Pin::new(&mut half).poll_shutdown(&mut Context::from_waker(Waker::noop()));
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(LAST_WRITE_TIMEOUT, async {
                    half.write_all_buf(&mut rest).await?;
                    half.shutdown().await
                })
                .await;
            });
        }
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.lock().poll_drain(cx)).await;
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut output = self.0.lock();
        match &mut *output {
            Output::Open(sending) if sending.rest.is_empty() && bytes.len() <= CHUNK_BYTES => {
                sending.rest = bytes;
                let _ = output.poll_drain(&mut Context::from_waker(Waker::noop()));
                Ok(())
            }
            Output::Open(_) => Err(StreamError::trap("write without a permit")),
            _ => Err(StreamError::Closed),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut output = self.0.lock();
        let drained = output.poll_drain(&mut Context::from_waker(Waker::noop()));
        match &mut *output {
            Output::Open(_) if drained.is_ready() => Ok(CHUNK_BYTES),
            Output::Open(_) => Ok(0),
            Output::Closed => Err(StreamError::Closed),
            Output::Failed(_) => match std::mem::replace(&mut *output, Output::Closed) {
                Output::Failed(error) => Err(failed(error)),
                _ => Err(StreamError::Closed),
            },
        }
    }
}
