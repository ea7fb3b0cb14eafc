//! Loopback addresses that nobody else uses, so that every server keeps its ordinary ports.
//!
//! The address is made from the process id: suites that run side by side do not meet. Never 127.0.x.x, but for the
//! servers that insist on an address that the interface carries: those get a port of their own on 127.0.0.1.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses per process.
const SHARE: u32 = 1 << 11;

/// The next unused address of this process.
#[must_use]
pub fn fresh() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // 8190 shares; the first 32 are 127.0.x.x, the last ends in the broadcast address.
    let share = 32 + std::process::id() % (8191 - 32);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    assert!(count < SHARE, "one process may have {SHARE} addresses");
    Ipv4Addr::from((127 << 24) + share * SHARE + count)
}

/// The next unused port of this process on 127.0.0.1, below those that the kernel gives to clients.
#[must_use]
pub fn fresh_port() -> SocketAddrV4 {
    const PORTS: u32 = 32;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = 10_000 + std::process::id() % 680 * PORTS;
    let next = || first + COUNT.fetch_add(1, Ordering::Relaxed) % PORTS;
    let mut addresses = (0..PORTS).map(|_| SocketAddrV4::new(Ipv4Addr::LOCALHOST, u16::try_from(next()).unwrap()));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("an unused port")
}

/// Whether a TCP socket listens there; found without connecting, which a super-server would answer.
#[must_use]
pub fn listens(address: SocketAddr) -> bool {
    let (table, ip) = match address.ip() {
        IpAddr::V4(ip) => ("/proc/net/tcp", format!("{:08X}", u32::from_ne_bytes(ip.octets()))),
        IpAddr::V6(ip) => (
            "/proc/net/tcp6",
            ip.octets().chunks(4).map(|four| format!("{:08X}", u32::from_ne_bytes(four.try_into().unwrap()))).collect(),
        ),
    };
    let wanted = format!("{ip}:{:04X}", address.port());
    fs::read_to_string(table).unwrap().lines().any(|line| {
        let mut field = line.split_ascii_whitespace().skip(1);
        field.next() == Some(&wanted) && field.nth(1) == Some("0A")
    })
}
