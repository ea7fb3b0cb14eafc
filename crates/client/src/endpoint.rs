//! Which server is asked, and who asks: a socket, or a host and port; an account.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::tls::Tls;
use crate::trusted::Secret;

/// The server to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The TCP port by which an instance is named, also where it is asked over a socket: the one in the options, or 3306.
    pub port: u16,
    /// Where it still listens when all connections are taken.
    pub extra: Option<Endpoint>,
    /// What is demanded of a connection over TCP; `None` for no TLS.
    pub tls: Option<Tls>,
}

impl Target {
    /// Another server, asked over TCP with the same demands on the connection.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Target {
        Target { endpoint: Endpoint::tcp(Some(host), port), port, extra: None, tls: self.tls.clone() }
    }

    /// The instance on another port of the same host. It has no extra port: that one belongs to this instance.
    #[must_use]
    pub fn on_port(&self, port: u16) -> Target {
        Target { endpoint: self.endpoint.on_port(port), port, extra: None, tls: self.tls.clone() }
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The path of a Unix socket.
    Socket(String),
    /// A host name or address, and a TCP port.
    Tcp(String, u16),
}

impl Endpoint {
    /// A TCP port of `host`, or of this one.
    pub(crate) fn tcp(host: Option<&str>, port: u16) -> Endpoint {
        Endpoint::Tcp(host.unwrap_or("127.0.0.1").to_owned(), port)
    }

    /// Another port of the same host.
    pub(crate) fn on_port(&self, port: u16) -> Endpoint {
        match self {
            Endpoint::Tcp(host, _) => Endpoint::tcp(Some(host), port),
            Endpoint::Socket(_) => Endpoint::tcp(None, port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Socket(path) => f.write_str(path),
            Endpoint::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account name.
    pub user: String,
    /// The password; `None` for an account that needs none (`unix_socket`, `auth_socket`).
    pub password: Option<Secret>,
}

/// The address that `host` is, where it is one.
pub(crate) fn address(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port))
}

/// The addresses of a host name, in the order of the resolver; `None` for an unknown name.
pub(crate) fn resolve(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let addresses: Vec<_> = (host, port).to_socket_addrs().ok()?.collect();
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_shown_as_it_is_written() {
        assert_eq!(Endpoint::Socket("/run/mysqld/mysqld.sock".into()).to_string(), "/run/mysqld/mysqld.sock");
        assert_eq!(Endpoint::Tcp("db01".into(), 3306).to_string(), "db01:3306");
        assert_eq!(Endpoint::Tcp("::1".into(), 3306).to_string(), "[::1]:3306");
    }

    #[test]
    fn another_port_is_on_the_same_host() {
        assert_eq!(Endpoint::Tcp("db01".into(), 3306).on_port(3307).to_string(), "db01:3307");
        assert_eq!(Endpoint::Socket("/a".into()).on_port(3307).to_string(), "127.0.0.1:3307");
    }
}
