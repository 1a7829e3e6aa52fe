//! What one stream of a tunnel carries. The opening side sends a header:
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | family of the source, 4 or 6 |
//! | 4 or 16 | address of the source |
//! | 2 | port of the source, big endian |
//! | 1, 4 or 16, 2 | the destination, likewise |
//!
//! The other side answers with one byte, a [`Verdict`]. Then both send frames: a length of
//! two bytes, big endian, and as many bytes; a length of 0 is a half-close. A stream that
//! ends without one was reset.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::stream::Stream;

/// The version of the header this node writes and reads.
const VERSION: u8 = 1;
/// Bytes of the largest frame; a longer one is a protocol error and resets the stream.
const FRAME_BYTES_MAX: usize = 8 * 1024;
/// Bytes before a frame's content.
const LENGTH_BYTES: usize = 2;

/// Who is connected to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// How the other node answers a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verdict {
    Connected = 0,
    Refused = 1,
    Unreachable = 2,
    TimedOut = 3,
    Denied = 4,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for address in [self.source, self.destination] {
            match address.ip() {
                IpAddr::V4(v4) => {
                    bytes.push(4);
                    bytes.extend(v4.octets());
                }
                IpAddr::V6(v6) => {
                    bytes.push(6);
                    bytes.extend(v6.octets());
                }
            }
            bytes.extend(address.port().to_be_bytes());
        }
        bytes
    }

    pub(crate) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Self> {
        if reader.read_u8().await? != VERSION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let source = read_address(reader).await?;
        let destination = read_address(reader).await?;
        Ok(Self { source, destination })
    }
}

async fn read_address<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<SocketAddr> {
    let ip: IpAddr = match reader.read_u8().await? {
        4 => Ipv4Addr::from(reader.read_u32().await?).into(),
        6 => Ipv6Addr::from(reader.read_u128().await?).into(),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    Ok(SocketAddr::new(ip, reader.read_u16().await?))
}

impl Verdict {
    pub(crate) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Self> {
        match reader.read_u8().await? {
            0 => Ok(Self::Connected),
            1 => Ok(Self::Refused),
            2 => Ok(Self::Unreachable),
            3 => Ok(Self::TimedOut),
            4 => Ok(Self::Denied),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Carries a connected stream over a tunnel until both sides have finished; a failure on
/// either side resets the other.
pub(crate) async fn splice<T: AsyncRead + AsyncWrite>(local: Stream, tunnel: T) {
    let (mut local_read, mut local_write) = tokio::io::split(local);
    let (mut tunnel_read, mut tunnel_write) = tokio::io::split(tunnel);
    let carried = tokio::try_join!(
        outward(&mut local_read, &mut tunnel_write),
        inward(&mut tunnel_read, &mut local_write),
    );
    if carried.is_err() {
        local_read.unsplit(local_write).abort();
    }
}

async fn outward<R, W>(local: &mut R, tunnel: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut frame = vec![0; LENGTH_BYTES + FRAME_BYTES_MAX];
    loop {
        let count = local.read(&mut frame[LENGTH_BYTES..]).await?;
        // At most FRAME_BYTES_MAX, which two bytes can say.
        frame[..LENGTH_BYTES].copy_from_slice(&(count as u16).to_be_bytes());
        tunnel.write_all(&frame[..LENGTH_BYTES + count]).await?;
        if count == 0 {
            return tunnel.flush().await;
        }
    }
}

async fn inward<R, W>(tunnel: &mut R, local: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut frame = vec![0; FRAME_BYTES_MAX];
    loop {
        let count = usize::from(tunnel.read_u16().await?);
        if count == 0 {
            return local.shutdown().await;
        }
        let content = frame.get_mut(..count).ok_or(io::ErrorKind::InvalidData)?;
        tunnel.read_exact(content).await?;
        local.write_all(content).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn headers_survive_the_wire() {
        for (source, destination) in [
            ("10.128.0.2:40000", "10.128.64.9:80"),
            ("[fd00::2]:1", "[fd00::ffff]:65535"),
            ("10.128.0.2:40000", "[fd00::3]:80"),
        ] {
            let header =
                Header { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
            let bytes = header.encode();
            assert_eq!(Header::read(&mut bytes.as_slice()).await.unwrap(), header);
            for cut in 0..bytes.len() {
                assert!(Header::read(&mut &bytes[..cut]).await.is_err());
            }
        }
    }

    #[tokio::test]
    async fn other_versions_and_families_are_refused() {
        assert!(Header::read(&mut &[2, 4, 1, 1, 1, 1, 0, 1][..]).await.is_err());
        assert!(Header::read(&mut &[1, 5, 1, 1, 1, 1, 0, 1][..]).await.is_err());
        assert!(Verdict::read(&mut &[9][..]).await.is_err());
    }
}
