//! Who may ask: the addresses of `--only-from`, the same under xinetd, systemd and inetd.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, getpeername};

use crate::verdict::{Verdict, down};

/// The networks whose hosts may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlyFrom(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// How many bits of the address a host shares.
    bits: u8,
}

/// Reads `192.0.2.10,192.0.2.128/25,2001:db8::/32`.
///
/// # Errors
/// What is not such a list, with the part at fault.
pub fn parse(text: &str) -> Result<OnlyFrom, String> {
    let networks: Option<Vec<Network>> = text.split(',').map(Network::read).collect();
    networks
        .map(OnlyFrom)
        .ok_or_else(|| "must be addresses like 192.0.2.10 or 192.0.2.0/24, with commas between them".into())
}

impl OnlyFrom {
    /// Admits a client on stdin that has one of these addresses, and one that is not connected over the network: a person's
    /// terminal, a pipe, a Unix socket.
    ///
    /// # Errors
    /// Down, with the address that is not admitted.
    pub fn admit(&self) -> Result<(), Verdict> {
        match getpeername(rustix::stdio::stdin()) {
            Err(Errno::NOTSOCK) => Ok(()),
            Ok(Some(client)) if client.address_family() == AddressFamily::UNIX => Ok(()),
            client => {
                let address = client.ok().flatten().and_then(|client| SocketAddr::try_from(client).ok());
                self.admit_address(address.map(|address| address.ip()))
            }
        }
    }

    fn admit_address(&self, client: Option<IpAddr>) -> Result<(), Verdict> {
        let Some(client) = client else { return Err(down("not for a client whose address is unknown")) };
        if self.admits(client) { Ok(()) } else { Err(down(format!("not for {}", client.to_canonical()))) }
    }

    /// Whether a client of this address may ask.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        // A socket for both families shows an IPv4 address in IPv6 clothes.
        let client = client.to_canonical();
        self.0.iter().any(|network| network.contains(client))
    }
}

impl Network {
    fn read(text: &str) -> Option<Network> {
        let (address, bits) =
            text.trim().split_once('/').map_or((text.trim(), None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
        match address.to_canonical() {
            // A network of IPv4 addresses in IPv6 clothes.
            plain @ IpAddr::V4(_) if address.is_ipv6() => Some(Network { address: plain, bits: bits.checked_sub(96)? }),
            address => Some(Network { address, bits }),
        }
    }

    fn contains(&self, client: IpAddr) -> bool {
        let (own, other, width) = match (self.address, client) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits()), u128::from(other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        // Nothing is left of a difference below the shared bits; with none shared, of any.
        (own ^ other).checked_shr(width - u32::from(self.bits)).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_admit_their_hosts() {
        for (list, client, admitted) in [
            ("192.0.2.10", "192.0.2.10", true),
            ("192.0.2.10", "192.0.2.11", false),
            ("192.0.2.10", "::ffff:192.0.2.10", true),
            ("::ffff:192.0.2.10", "192.0.2.10", true),
            ("::ffff:192.0.2.0/120", "192.0.2.77", true),
            ("::ffff:192.0.2.0/120", "192.0.3.77", false),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.9/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/25,198.51.100.7", "192.0.2.128", false),
            ("192.0.2.0/25, 198.51.100.7", "198.51.100.7", true),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "::ffff:192.0.2.10", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
        ] {
            let verdict = parse(list).unwrap().admit_address(Some(client.parse().unwrap()));
            assert_eq!(verdict.is_ok(), admitted, "{list}: {client}");
        }
        let refused = parse("::1").unwrap().admit_address(Some("::ffff:192.0.2.10".parse().unwrap())).unwrap_err();
        assert_eq!(refused.to_string(), "down: not for 192.0.2.10");
        assert!(parse("::1").unwrap().admit_address(None).is_err());
    }

    #[test]
    fn what_is_not_a_list_of_addresses_is_refused() {
        for text in [
            "",
            ",",
            "192.0.2.10,",
            "db01",
            "192.0.2",
            "192.0.2.0/33",
            "::/129",
            "192.0.2.0/",
            "192.0.2.0/-1",
            "::ffff:1.2.3.4/64",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
