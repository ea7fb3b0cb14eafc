//! The options that every program has: which server is asked, as whom, and by TLS.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::{ArgAction, Args};

use crate::endpoint::{Account, Endpoint, Target};
use crate::tls;
use crate::trusted::Secret;

/// Read when no `--defaults-file` names another, where it exists.
pub const DEFAULT_FILE: &str = "/etc/mysqlchk/my.cnf";
/// Where Debian's servers listen.
pub const DEFAULT_SOCKET: &str = "/run/mysqld/mysqld.sock";
const DEFAULT_USER: &str = "mysqlchk";
/// Where a server listens unless told otherwise.
pub const DEFAULT_PORT: u16 = 3306;
/// What fits into `sockaddr_un` with its final NUL (`unix(7)`).
pub(crate) const SOCKET_PATH_MAX: usize = 107;

/// The options that every program has.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Read options from this file only [default: /etc/mysqlchk/my.cnf where it exists]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    defaults_file: Option<PathBuf>,
    /// Connect to this host; `localhost` means the socket
    #[arg(long, short = 'h', value_name = "HOST", help_heading = "Server")]
    host: Option<String>,
    /// Connect to this TCP port [default: 3306]; alone it means 127.0.0.1
    #[arg(long, short = 'P', value_name = "PORT", value_parser = port, help_heading = "Server")]
    port: Option<u16>,
    /// Connect to this Unix socket [default: /run/mysqld/mysqld.sock]
    #[arg(long, short = 'S', value_name = "PATH", help_heading = "Server")]
    socket: Option<String>,
    /// Connect over TCP or SOCKET, whatever the other options name
    #[arg(long, value_name = "HOW", value_parser = protocol, help_heading = "Server")]
    protocol: Option<Protocol>,
    /// Log in as this account
    #[arg(long, short, value_name = "NAME", default_value = DEFAULT_USER, help_heading = "Server")]
    user: String,
    /// Ask on this port when all connections are in use (MariaDB: `extra_port`, MySQL: `admin_port`)
    #[arg(long, value_name = "PORT", value_parser = port, help_heading = "Server")]
    extra_port: Option<u16>,
    #[command(flatten)]
    tls: tls::Options,
    /// Show the options from option files, with the password masked, and exit
    #[arg(long, help_heading = HELP)]
    pub(crate) print_defaults: bool,
    /// Show this help and exit
    #[arg(long, short = '?', action = ArgAction::Help, help_heading = HELP)]
    help: Option<bool>,
    /// Show the version and exit
    #[arg(long, short = 'V', action = ArgAction::Version, help_heading = HELP)]
    version: Option<bool>,
}

/// The heading of the options that show something and exit; they take no value.
pub(crate) const HELP: &str = "Help";

/// What a connection is made over, where an option names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Socket,
}

/// Reads a protocol in any case. The client programs have others for Windows.
fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "TCP" => Ok(Protocol::Tcp),
        "SOCKET" => Ok(Protocol::Socket),
        _ => Err("must be TCP or SOCKET".into()),
    }
}

/// Reads a TCP port.
///
/// # Errors
/// As [`number`].
pub fn port(text: &str) -> Result<u16, String> {
    number(1..=u16::MAX.into())(text)
}

/// Reads a whole number of this range, which `T` has room for: digits and nothing else.
pub fn number<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
    }
}

/// Reads the value of a flag as the `MySQL` programs do: `--quick`, `--quick=1`, `--quick=OFF`.
///
/// # Errors
/// Any other word.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "true" | "yes" => Ok(true),
        "0" | "off" | "false" | "no" => Ok(false),
        _ => Err("must be 1 or 0, ON or OFF, TRUE or FALSE".into()),
    }
}

impl Options {
    /// The server and the account that the options name. A password comes from an option file.
    pub(crate) fn resolve(self, password: Option<Secret>) -> Result<(Target, Account)> {
        let named_localhost = self.host.as_deref() == Some("localhost");
        let host = self.host.as_deref().filter(|host| *host != "localhost" && !host.is_empty());
        let socket = self.socket.filter(|socket| !socket.is_empty());
        let endpoint = match (self.protocol, host, socket, self.port) {
            (Some(Protocol::Socket), Some(host), ..) => {
                bail!("`--protocol SOCKET` and `--host {host}` exclude each other")
            }
            (Some(Protocol::Tcp), ..) | (None, Some(_), ..) => Endpoint::tcp(host, self.port.unwrap_or(DEFAULT_PORT)),
            (_, None, Some(socket), _) => Endpoint::Socket(path_of_socket(socket)?),
            (None, None, None, Some(port)) if named_localhost && port != DEFAULT_PORT => {
                bail!("`--host localhost` means the socket, so port {port} would not be used: write `--host 127.0.0.1`")
            }
            (None, None, None, Some(port)) if !named_localhost => Endpoint::tcp(None, port),
            (_, None, None, _) => Endpoint::Socket(DEFAULT_SOCKET.into()),
        };
        let extra = self.extra_port.map(|port| endpoint.on_port(port));
        let target = Target { endpoint, port: self.port.unwrap_or(DEFAULT_PORT), extra, tls: self.tls.resolve()? };
        Ok((target, Account { user: self.user, password }))
    }
}

/// A path that a socket can have.
fn path_of_socket(path: String) -> Result<String> {
    ensure!(!path.starts_with('@'), "`--socket {path}`: abstract sockets are not supported, write a path or `--host`");
    ensure!(
        path.len() <= SOCKET_PATH_MAX,
        "`--socket` is {} bytes long, the limit is {SOCKET_PATH_MAX}: {path}",
        path.len()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_within_its_range() {
        let number = number::<u32>(1..=4_294_967_295);
        assert_eq!((number("1"), number("4294967295")), (Ok(1), Ok(u32::MAX)));
        for wrong in ["", "0", "4294967296", "99999999999999999999", "-1", "+1", "1.5", "x", " 1"] {
            assert_eq!(number(wrong).unwrap_err(), "must be a number from 1 to 4294967295", "{wrong}");
        }
    }
}
