//! How many sessions a server has, by the kernel's tables: no account is needed, and none of the server's connections.

use std::fs;

use anyhow::{Context, Result};

/// The state `TCP_ESTABLISHED` in `/proc/net/tcp` (proc(5)).
const ESTABLISHED: &str = "01";

/// The established TCP connections whose local end is this port.
///
/// # Errors
/// When the kernel's tables cannot be read.
pub(crate) fn established(port: u16) -> Result<usize> {
    let ipv4 = fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
    // Absent without IPv6.
    let ipv6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    Ok(count(&ipv4, port) + count(&ipv6, port))
}

fn count(table: &str, port: u16) -> usize {
    let is_session = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next(), fields.next(), fields.next());
        let local = local.and_then(|local| u16::from_str_radix(local.rsplit(':').next()?, 16).ok());
        local == Some(port) && state == Some(ESTABLISHED)
    };
    table.lines().skip(1).filter(is_session).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_the_port_are_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            \x20  0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000\n\
            \x20  1: 0100007F:0CEA 0100007F:A1B2 01 00000000:00000000\n\
            \x20  2: 0100007F:A1B2 0100007F:0CEA 01 00000000:00000000\n\
            \x20  3: 00000000000000000000000000000001:0CEA 00000000000000000000000000000001:A1B3 01 0:0\n";
        assert_eq!(count(table, 3306), 2);
        assert_eq!(count(table, 3307), 0);
    }
}
