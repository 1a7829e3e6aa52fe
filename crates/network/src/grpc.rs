//! The node network API (`proto/coracle/network/v1`) over a fabric: `Sync` for the proxy,
//! `Dial` for probes and port forwarding.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use coracle_cri::network::v1::dial_request::Frame as RequestFrame;
use coracle_cri::network::v1::dial_response::Frame as ResponseFrame;
use coracle_cri::network::v1::node_network_server::{NodeNetwork, NodeNetworkServer};
use coracle_cri::network::v1::{DialOpen, DialRequest, DialResponse, SyncRequest, SyncResponse};
use futures::Stream as FuturesStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::error::Error;
use crate::fabric::Fabric;
use crate::stream::Stream;

/// Bytes of the largest sync request: some 100,000 endpoints. A larger one is refused with
/// OUT_OF_RANGE, and the fabric keeps what it has.
pub const SYNC_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of one `data` frame to a client.
const FRAME_BYTES: usize = 16 * 1024;
/// Frames that wait for a slow client before the stream is not read further.
const FRAMES_MAX: usize = 4;
/// How long a client may take to say where it wants to be connected.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

type Frames = mpsc::Sender<Result<DialResponse, Status>>;

/// The service over a fabric; see [`node_network_server`].
#[derive(Debug, Clone)]
pub struct NodeNetworkService {
    fabric: Fabric,
}

/// The gRPC server of a fabric's node network API, to be added to a tonic router.
pub fn node_network_server(fabric: Fabric) -> NodeNetworkServer<NodeNetworkService> {
    NodeNetworkServer::new(NodeNetworkService { fabric }).max_decoding_message_size(SYNC_BYTES_MAX)
}

#[tonic::async_trait]
impl NodeNetwork for NodeNetworkService {
    type DialStream = Pin<Box<dyn FuturesStream<Item = Result<DialResponse, Status>> + Send>>;

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        if request.get_ref().generation == 0 {
            return Err(Status::invalid_argument("generation must not be 0"));
        }
        self.fabric.sync(request.get_ref()).map(Response::new).map_err(|error| status(&error))
    }

    async fn dial(
        &self,
        request: Request<Streaming<DialRequest>>,
    ) -> Result<Response<Self::DialStream>, Status> {
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(OPEN_TIMEOUT, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no open frame"))??;
        let Some(RequestFrame::Open(open)) = first.and_then(|request| request.frame) else {
            return Err(Status::invalid_argument("the first frame must be open"));
        };
        let stream = self.open(open).await?;
        let (frames, responses) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(relay(stream, requests, frames));
        Ok(Response::new(Box::pin(ReceiverStream::new(responses)) as Self::DialStream))
    }
}

impl NodeNetworkService {
    async fn open(&self, open: DialOpen) -> Result<Stream, Status> {
        let port = u16::try_from(open.port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| Status::invalid_argument(format!("port {}", open.port)))?;
        let dialled = if open.pod_sandbox_id.is_empty() {
            let address: IpAddr = open
                .address
                .parse()
                .map_err(|_| Status::invalid_argument(format!("address {:?}", open.address)))?;
            self.fabric.dial(address, port).await
        } else {
            self.fabric.dial_sandbox(&open.pod_sandbox_id, port).await
        };
        dialled.map_err(|error| status(&error))
    }
}

/// Carries a dialled stream until both sides have finished, one has failed, or the client
/// has gone.
async fn relay(stream: Stream, requests: Streaming<DialRequest>, frames: Frames) {
    let opened = DialResponse { frame: Some(ResponseFrame::Opened(true)) };
    if frames.send(Ok(opened)).await.is_err() {
        return;
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let carried = {
        let both = async { tokio::try_join!(outward(&mut reader, &frames), inward(requests, &mut writer)) };
        tokio::select! {
            () = frames.closed() => Err(Status::cancelled("the client has gone")),
            carried = both => carried.map(|_| ()),
        }
    };
    if let Err(status) = carried {
        reader.unsplit(writer).abort();
        // Where the client has gone nobody is left to be told.
        let _ = frames.send(Err(status)).await;
    }
}

/// From the fabric to the client.
async fn outward(reader: &mut ReadHalf<Stream>, frames: &Frames) -> Result<(), Status> {
    let mut buffer = vec![0; FRAME_BYTES];
    loop {
        let count = reader.read(&mut buffer).await.map_err(|error| broken(&error))?;
        let frame = match count {
            0 => ResponseFrame::HalfClose(true),
            count => ResponseFrame::Data(Bytes::copy_from_slice(&buffer[..count])),
        };
        let response = DialResponse { frame: Some(frame) };
        frames.send(Ok(response)).await.map_err(|_| Status::cancelled("the client has gone"))?;
        if count == 0 {
            return Ok(());
        }
    }
}

/// From the client to the fabric; the end of the requests is a half-close too.
async fn inward(mut requests: Streaming<DialRequest>, writer: &mut WriteHalf<Stream>) -> Result<(), Status> {
    while let Some(request) = requests.message().await? {
        match request.frame {
            Some(RequestFrame::Data(data)) => {
                writer.write_all(&data).await.map_err(|error| broken(&error))?;
            }
            Some(RequestFrame::HalfClose(_)) => break,
            Some(RequestFrame::Open(_)) | None => {
                return Err(Status::invalid_argument("only the first frame is open"));
            }
        }
    }
    writer.shutdown().await.map_err(|error| broken(&error))
}

fn broken(error: &std::io::Error) -> Status {
    Status::aborted(error.to_string())
}

/// The gRPC code that tells a client what to do about an error.
fn status(error: &Error) -> Status {
    let code = match error {
        Error::ConnectionRefused(_) | Error::Unreachable { .. } => Code::Unavailable,
        Error::TimedOut(_) => Code::DeadlineExceeded,
        Error::AccessDenied { .. } => Code::PermissionDenied,
        Error::StaleGeneration { .. } | Error::NoPodCidr | Error::Detached => Code::FailedPrecondition,
        Error::InvalidRequest(_) | Error::AddressNotAvailable(_) | Error::AddressOutOfRange { .. } => {
            Code::InvalidArgument
        }
        Error::AddressInUse(_) | Error::SandboxExists(_) => Code::AlreadyExists,
        Error::PortsExhausted(_) | Error::AddressesExhausted(_) => Code::ResourceExhausted,
        Error::SandboxUnknown(_) | Error::NameNotFound(_) => Code::NotFound,
        Error::Listen { .. } | Error::NoRuntime => Code::Internal,
    };
    Status::new(code, error.to_string())
}
