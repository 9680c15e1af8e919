//! The one place where connections to and from other nodes begin: TLS will wrap them here, and a
//! simulated world brings its own.

use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Both directions of a connection: bytes, in order, or an end.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for T {}

/// Where connections come from. Whatever it is must behave as TCP does: a connection that is open
/// delivers every byte, in order, once.
pub trait Sockets: Send + Sync + 'static {
    /// A connection to a peer.
    ///
    /// # Errors
    /// Nothing answers there, or the address means nothing. It may be tried again.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Socket>>>;

    /// Takes an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
}

/// An address that others connect to, until it is dropped.
pub trait Listener: Send + Sync + 'static {
    /// What address that is.
    ///
    /// # Errors
    /// The system does not know.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection from another node.
    ///
    /// # Errors
    /// That connection failed, or there is no room for one more. Others may follow.
    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Socket>>>;
}

/// Sockets of the operating system. Small messages are sent at once: frames already coalesce them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Sockets for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Socket>>> {
        Box::pin(async move { without_delay(TcpStream::connect(address).await?) })
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener: Box<dyn Listener> = Box::new(TcpListener::bind(address).await?);
            Ok(listener)
        })
    }
}

impl Listener for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Socket>>> {
        Box::pin(async move { without_delay(self.accept().await?.0) })
    }
}

fn without_delay(socket: TcpStream) -> io::Result<Box<dyn Socket>> {
    socket.set_nodelay(true)?;
    Ok(Box::new(socket))
}
