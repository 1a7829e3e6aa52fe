//! `tcp-echo`: plain TCP over `wasi:sockets` (WASI 0.2).
//!
//! - `tcp-echo [PORT]` listens on every address of the pod and sends back what it gets,
//!   any number of connections at a time. The port is the argument, else the environment
//!   variable `PORT`, else 7.
//! - `tcp-echo call HOST PORT TEXT` connects by name, sends the text and prints the answer.
//! - `tcp-echo udp` shows what happens to a UDP socket.

use std::process::exit;

use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

/// Most connections served at a time; later ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["call", host, port, text] => call(host, port.parse().unwrap_or(7), text),
        ["udp"] => create_udp_socket(IpAddressFamily::Ipv4).map(|_| ()),
        rest => serve(port(rest.first().copied())),
    };
    if let Err(error) = done {
        eprintln!("tcp-echo: {error}");
        exit(1);
    }
}

fn port(argument: Option<&str>) -> u16 {
    let variable = std::env::var("PORT").ok();
    argument
        .or(variable.as_deref())
        .and_then(|text| text.parse().ok())
        .unwrap_or(7)
}

fn serve(port: u16) -> Result<(), ErrorCode> {
    let network = instance_network();
    let listener = create_tcp_socket(IpAddressFamily::Ipv4)?;
    listener.start_bind(&network, socket_address((0, 0, 0, 0), port))?;
    listener.finish_bind()?;
    listener.start_listen()?;
    listener.finish_listen()?;
    println!("listening on port {port}");

    let incoming = listener.subscribe();
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let mut waiting: Vec<&Pollable> = connections.iter().map(|c| &c.readable).collect();
        if connections.len() < CONNECTIONS_MAX {
            waiting.push(&incoming);
        }
        let mut ready = poll(&waiting);
        ready.sort_unstable();
        for index in ready.into_iter().rev() {
            let index = index as usize;
            if index == connections.len() {
                accept(&listener, &mut connections)?;
            } else if !connections[index].echo() {
                connections.swap_remove(index);
            }
        }
    }
}

fn accept(listener: &TcpSocket, connections: &mut Vec<Connection>) -> Result<(), ErrorCode> {
    match listener.accept() {
        Ok((socket, input, output)) => {
            let readable = input.subscribe();
            connections.push(Connection {
                readable,
                input,
                output,
                _socket: socket,
            });
            Ok(())
        }
        Err(ErrorCode::WouldBlock | ErrorCode::ConnectionAborted) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Fields drop in order: children before the socket that they belong to.
struct Connection {
    readable: Pollable,
    input: InputStream,
    output: OutputStream,
    _socket: TcpSocket,
}

impl Connection {
    /// Sends back what has arrived. False when the connection is over.
    fn echo(&self) -> bool {
        match self.input.read(4096) {
            Ok(bytes) => bytes.is_empty() || self.output.blocking_write_and_flush(&bytes).is_ok(),
            Err(_) => false,
        }
    }
}

fn call(host: &str, port: u16, text: &str) -> Result<(), ErrorCode> {
    let network = instance_network();
    let names = resolve_addresses(&network, host)?;
    names.subscribe().block();
    let Some(IpAddress::Ipv4(address)) = names.resolve_next_address()? else {
        return Err(ErrorCode::NameUnresolvable);
    };
    println!(
        "{host} is {}.{}.{}.{}",
        address.0, address.1, address.2, address.3
    );
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&network, socket_address(address, port))?;
    socket.subscribe().block();
    let (input, output) = socket.finish_connect()?;
    let broken = |_| ErrorCode::ConnectionReset;
    output
        .blocking_write_and_flush(text.as_bytes())
        .map_err(broken)?;
    socket.shutdown(ShutdownType::Send)?;
    let mut answer = Vec::new();
    loop {
        match input.blocking_read(4096) {
            Ok(bytes) => answer.extend_from_slice(&bytes),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(broken(error)),
        }
    }
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn socket_address(address: (u8, u8, u8, u8), port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })
}
