//! The node's network seam over turmoil's simulated TCP. Latency, cuts and crashes are turmoil's; nothing here knows of them.

use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use node::seams::{Listener, Net, Stream};
use turmoil::net::{TcpListener, TcpStream};

/// Sockets of the turmoil host that calls it.
pub struct SimNet;

struct Bound(TcpListener);

fn wrap(stream: TcpStream) -> io::Result<Stream> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(Stream::new(stream, local, peer))
}

impl Net for SimNet {
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(Bound(TcpListener::bind(address).await?)) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move { wrap(TcpStream::connect(address).await?) })
    }
}

impl Listener for Bound {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move { wrap(self.0.accept().await?.0) })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
