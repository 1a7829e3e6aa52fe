//! An in-memory connection: two bounded byte queues with the manners of TCP. Each side
//! may half-close; dropping a side with unread input, or aborting it, resets the other.
//! An idle pipe holds no buffer.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::ReadBuf;

/// Bytes that one direction of a pipe holds before the writer waits. As much as a usual
/// socket buffer, so that a guest can neither be starved nor make the host hoard.
pub(crate) const PIPE_BYTES_MAX: usize = 64 * 1024;
/// A drained buffer larger than this is given back; a smaller one is kept for the next
/// message.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// Makes a connected pair.
pub(crate) fn pair() -> (End, End) {
    let pipe = Arc::new(Pipe::default());
    let far = End { pipe: Arc::clone(&pipe), side: Side::B };
    (End { pipe, side: Side::A }, far)
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pipe: Arc<Pipe>,
    side: Side,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    A,
    B,
}

#[derive(Debug, Default)]
struct Pipe {
    from_a: Mutex<Direction>,
    from_b: Mutex<Direction>,
}

/// One direction: what was written and not yet read.
#[derive(Debug, Default)]
struct Direction {
    bytes: VecDeque<u8>,
    ended: Option<Ended>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The writer finished: end of file after the bytes.
    Finished,
    /// The writer broke off: an error after the bytes.
    Reset,
}

impl End {
    /// Reads what is there; at the end of the stream, nothing.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut direction = self.incoming().lock();
        if !direction.bytes.is_empty() {
            direction.take(buf);
            let writer = direction.writer.take();
            drop(direction);
            wake(writer);
            return Poll::Ready(Ok(()));
        }
        match direction.ended {
            Some(Ended::Finished) => Poll::Ready(Ok(())),
            Some(Ended::Reset) => Poll::Ready(Err(reset())),
            None => {
                remember(&mut direction.reader, cx);
                Poll::Pending
            }
        }
    }

    /// Writes as much as there is room for; waits where there is none.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut direction = self.outgoing().lock();
        if direction.reader_gone {
            return Poll::Ready(Err(reset()));
        }
        if direction.ended.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE_BYTES_MAX - direction.bytes.len();
        if room == 0 {
            remember(&mut direction.writer, cx);
            return Poll::Pending;
        }
        let count = room.min(data.len());
        direction.bytes.extend(&data[..count]);
        let reader = direction.reader.take();
        drop(direction);
        wake(reader);
        Poll::Ready(Ok(count))
    }

    /// Half-closes: the other side reads to the end of file.
    pub(crate) fn finish(&mut self) {
        self.end_outgoing(Ended::Finished);
    }

    /// Breaks the connection off: the other side's reads and writes fail.
    pub(crate) fn abort(self) {
        self.end_outgoing(Ended::Reset);
    }

    fn incoming(&self) -> &Mutex<Direction> {
        match self.side {
            Side::A => &self.pipe.from_b,
            Side::B => &self.pipe.from_a,
        }
    }

    fn outgoing(&self) -> &Mutex<Direction> {
        match self.side {
            Side::A => &self.pipe.from_a,
            Side::B => &self.pipe.from_b,
        }
    }

    /// A reset replaces a finish, as a RST may follow a FIN; never the other way.
    fn end_outgoing(&self, ended: Ended) {
        let mut direction = self.outgoing().lock();
        if direction.ended != Some(Ended::Reset) {
            direction.ended = Some(ended);
        }
        let reader = direction.reader.take();
        drop(direction);
        wake(reader);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut direction = self.incoming().lock();
        direction.reader_gone = true;
        let unread = !direction.bytes.is_empty();
        direction.bytes = VecDeque::new();
        let writer = direction.writer.take();
        drop(direction);
        wake(writer);
        self.end_outgoing(if unread { Ended::Reset } else { Ended::Finished });
    }
}

impl Direction {
    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let (first, second) = self.bytes.as_slices();
        let from_first = first.len().min(buf.remaining());
        buf.put_slice(&first[..from_first]);
        let from_second = second.len().min(buf.remaining());
        buf.put_slice(&second[..from_second]);
        let taken = from_first + from_second;
        if taken == self.bytes.len() && self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = VecDeque::new();
        } else {
            self.bytes.drain(..taken);
        }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn read(end: &mut End, size: usize) -> io::Result<Vec<u8>> {
        let mut space = vec![0; size];
        let mut buf = ReadBuf::new(&mut space);
        poll_fn(|cx| end.poll_read(cx, &mut buf)).await?;
        Ok(buf.filled().to_vec())
    }

    async fn write(end: &mut End, data: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| end.poll_write(cx, data)).await
    }

    #[tokio::test]
    async fn carries_bytes_and_half_closes() {
        let (mut a, mut b) = pair();
        assert_eq!(write(&mut a, b"ping").await.unwrap(), 4);
        a.finish();
        assert_eq!(read(&mut b, 2).await.unwrap(), b"pi");
        assert_eq!(read(&mut b, 8).await.unwrap(), b"ng");
        assert_eq!(read(&mut b, 8).await.unwrap(), b"");
        assert_eq!(write(&mut b, b"pong").await.unwrap(), 4);
        assert_eq!(read(&mut a, 8).await.unwrap(), b"pong");
        assert_eq!(write(&mut a, b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_full_pipe_makes_the_writer_wait() {
        let (mut a, mut b) = pair();
        let big = vec![7; PIPE_BYTES_MAX + 1];
        assert_eq!(write(&mut a, &big).await.unwrap(), PIPE_BYTES_MAX);
        let writer = tokio::spawn(async move {
            let written = write(&mut a, &big[..1]).await;
            (a, written)
        });
        assert_eq!(read(&mut b, PIPE_BYTES_MAX).await.unwrap().len(), PIPE_BYTES_MAX);
        let (_a, written) = writer.await.unwrap();
        assert_eq!(written.unwrap(), 1);
        assert_eq!(read(&mut b, 8).await.unwrap(), [7]);
    }

    #[tokio::test]
    async fn a_dropped_end_is_an_end_of_file_and_then_a_reset_for_the_writer() {
        let (mut a, mut b) = pair();
        write(&mut a, b"bye").await.unwrap();
        drop(a);
        assert_eq!(read(&mut b, 8).await.unwrap(), b"bye");
        assert_eq!(read(&mut b, 8).await.unwrap(), b"");
        assert_eq!(write(&mut b, b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn dropping_with_unread_input_resets() {
        let (mut a, b) = pair();
        write(&mut a, b"unread").await.unwrap();
        drop(b);
        assert_eq!(read(&mut a, 8).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn an_abort_resets_after_the_bytes_that_were_sent() {
        let (mut a, mut b) = pair();
        write(&mut a, b"half").await.unwrap();
        a.finish();
        a.abort();
        assert_eq!(read(&mut b, 8).await.unwrap(), b"half");
        assert_eq!(read(&mut b, 8).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
