//! The kernel's tables of TCP sockets: how many sessions a server has, without an account and without one of its connections;
//! and who listens on a port.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use client::options;

/// The states `TCP_ESTABLISHED` and `TCP_LISTEN` in `/proc/net/tcp` (proc(5)).
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// Where a server listens: a port, on one address or on all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "port {} of {ip}", self.port),
            None => write!(f, "port {}", self.port),
        }
    }
}

impl Place {
    /// Reads `3306`, `192.0.2.11:3306` or `[2001:db8::11]:3306`.
    pub(crate) fn read(text: &str) -> Result<Place, String> {
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Ok(Place { ip: Some(address.ip()), port: options::port(&address.port().to_string())? });
        }
        let port = options::port(text).map_err(|_| "must be a port, or ADDRESS:PORT")?;
        Ok(Place { ip: None, port })
    }

    /// The established TCP connections whose local end is here.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub(crate) fn sessions(&self) -> Result<usize> {
        Ok(self.count(&tables()?))
    }

    fn count(&self, tables: &str) -> usize {
        let is_here = |socket: &Socket| socket.port == self.port && self.ip.is_none_or(|own| socket.ip == own);
        sockets(tables).filter(|socket| socket.state == ESTABLISHED).filter(is_here).count()
    }
}

/// The inode of the socket that listens on a port, for this address or for all (`None`): one for all addresses serves each.
pub(crate) fn listener(ip: Option<IpAddr>, port: u16) -> Option<u64> {
    let tables = tables().ok()?;
    let serves = |socket: &Socket| socket.ip.is_unspecified() || ip.is_none_or(|ip| ip == socket.ip);
    let mut listening = sockets(&tables).filter(|socket| socket.state == LISTEN && socket.port == port);
    listening.find(serves).map(|socket| socket.inode)
}

/// A line of the tables.
struct Socket<'a> {
    ip: IpAddr,
    port: u16,
    state: &'a str,
    inode: u64,
}

/// The tables for IPv4 and IPv6.
fn tables() -> Result<String> {
    let ipv4 = fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
    // Absent without IPv6.
    Ok(ipv4 + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default())
}

/// The sockets of tables; a line that is none, such as the heading, is left out.
fn sockets(tables: &str) -> impl Iterator<Item = Socket<'_>> {
    tables.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (ip, port) = fields.next()?.split_once(':')?;
        let state = fields.nth(1)?;
        // After queues, timer, retransmits, user and timeout.
        let inode = fields.nth(5).and_then(|inode| inode.parse().ok()).unwrap_or(0);
        Some(Socket { ip: address(ip)?, port: u16::from_str_radix(port, 16).ok()?, state, inode })
    })
}

/// An address as these tables have it: words of 32 bits, each in the byte order of the machine. An IPv4-mapped
/// IPv6 address counts as IPv4.
fn address(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for word in hex.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ipv4 = || <[u8; 4]>::try_from(&bytes[..]).ok().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let ipv6 = || <[u8; 16]>::try_from(&bytes[..]).ok().map(|bytes| Ipv6Addr::from(bytes).to_canonical());
    ipv4().or_else(ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Place {
        Place::read(text).unwrap()
    }

    #[test]
    fn connections_of_the_port_are_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            \x20  0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000\n\
            \x20  1: 0100007F:0CEA 0100007F:A1B2 01 00000000:00000000\n\
            \x20  2: 0100007F:A1B2 0100007F:0CEA 01 00000000:00000000\n\
            \x20  3: 0000000000000000FFFF00000200007F:0CEA 0000000000000000FFFF00000100007F:A1B3 01 0:0\n\
            \x20  4: 00000000000000000000000001000000:0CEA 00000000000000000000000001000000:A1B4 01 0:0\n";
        for (place, count) in [
            ("3306", 3),
            ("3307", 0),
            ("127.0.0.1:3306", 1),
            ("127.0.0.2:3306", 1),
            ("127.0.0.3:3306", 0),
            ("[::1]:3306", 1),
        ] {
            assert_eq!(read(place).count(table), count, "{place}");
        }
        assert_eq!(read("[::1]:3306").to_string(), "port 3306 of ::1");
        for wrong in ["0", "db01:3306", "127.0.0.1", "127.0.0.1:0", ""] {
            assert!(Place::read(wrong).is_err(), "{wrong}");
        }
    }
}
