//! TCP into pods: through the node network API where the runtime offers it, else through
//! the host's own network.

use std::io;

use coracle_cri::network::v1 as network;
use coracle_cri::network::v1::dial_request::Frame as Out;
use coracle_cri::network::v1::dial_response::Frame as In;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::Outcome;
use crate::cri::Runtime;

/// Bytes in flight in each direction of a stream.
const BUFFER_BYTES: usize = 16 << 10;
/// Frames queued towards the runtime.
const FRAMES_MAX: usize = 4;

/// A byte stream into a pod.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection that did not come about.
#[derive(Debug)]
pub(super) enum DialError {
    /// Nobody listens there.
    Refused(String),
    /// Anything else that the other side is to blame for.
    Failed(String),
    /// The network itself cannot be asked.
    Unavailable(String),
}

impl DialError {
    /// What this means for a probe that was doing `what`.
    pub(super) fn outcome(self, what: &str) -> Outcome {
        match self {
            Self::Refused(message) => Outcome::Refused(format!("{what}: {message}")),
            Self::Failed(message) => Outcome::Failure(format!("{what}: {message}")),
            Self::Unavailable(message) => Outcome::Unknown(format!("{what}: {message}")),
        }
    }
}

/// Connects to `host:port`.
pub(super) async fn dial(runtime: &Runtime, host: &str, port: u16) -> Result<Box<dyn Connection>, DialError> {
    match through_runtime(runtime, host, port).await {
        Ok(Some(stream)) => Ok(Box::new(stream)),
        Ok(None) => match TcpStream::connect((host, port)).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(DialError::Refused("connect: connection refused".to_owned()))
            }
            Err(error) => Err(DialError::Failed(error.to_string())),
        },
        Err(error) => Err(error),
    }
}

/// A stream through the node network API; `None` when the runtime has none.
async fn through_runtime(
    runtime: &Runtime,
    host: &str,
    port: u16,
) -> Result<Option<DuplexStream>, DialError> {
    let (out, queue) = mpsc::channel(FRAMES_MAX);
    let open = network::DialOpen { address: host.to_owned(), port: u32::from(port), ..Default::default() };
    let closed = || DialError::Failed("the connection was closed".to_owned());
    let first = network::DialRequest { frame: Some(Out::Open(open)) };
    out.send(first).await.map_err(|_| closed())?;
    let answer = runtime.network().dial(ReceiverStream::new(queue)).await;
    let mut incoming = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::Unimplemented => return Ok(None),
        Err(status) => return Err(refusal(&status)),
    };
    match incoming.message().await {
        Ok(Some(network::DialResponse { frame: Some(In::Opened(_)) })) => {}
        Ok(_) => return Err(closed()),
        Err(status) if status.code() == Code::Unimplemented => return Ok(None),
        Err(status) => return Err(refusal(&status)),
    }
    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
    tokio::spawn(pump(far, out, incoming));
    Ok(Some(near))
}

/// What a refused dial means. The network says by the code whether somebody was there.
fn refusal(status: &tonic::Status) -> DialError {
    let message = status.message().to_owned();
    if message.to_lowercase().contains("refused") {
        return DialError::Refused("connect: connection refused".to_owned());
    }
    match status.code() {
        Code::Unavailable => DialError::Unavailable(message),
        _ => DialError::Failed(message),
    }
}

/// Moves bytes between the near end's peer and the runtime until either side is done.
async fn pump(
    far: DuplexStream,
    out: mpsc::Sender<network::DialRequest>,
    mut incoming: Streaming<network::DialResponse>,
) {
    let (mut from_near, mut to_near) = tokio::io::split(far);
    let sending = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = from_near.read(&mut buffer).await.unwrap_or(0);
            let frame = match buffer.get(..count) {
                Some(data) if count > 0 => Out::Data(data.to_vec().into()),
                _ => Out::HalfClose(true),
            };
            let last = count == 0;
            let sent = out.send(network::DialRequest { frame: Some(frame) }).await;
            if last || sent.is_err() {
                break;
            }
        }
    };
    let receiving = async {
        while let Ok(Some(response)) = incoming.message().await {
            match response.frame {
                Some(In::Data(data)) => {
                    if to_near.write_all(&data).await.is_err() {
                        break;
                    }
                }
                Some(In::HalfClose(_)) | None => break,
                Some(In::Opened(_)) => {}
            }
        }
        // The near end may have been dropped; then nobody reads this.
        let _ = to_near.shutdown().await;
    };
    // A near end that reads no more has been dropped: the runtime's end goes with it.
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}
