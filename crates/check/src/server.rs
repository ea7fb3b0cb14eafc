//! The local server: one connection, one login, one query, and nothing the driver would like to ask on its own.
//!
//! The only place that knows the driver. Server error text never leaves it: it can hold user names and data, so an error
//! is its number and our own words.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};

use mysql::error::tls::TlsError;
use mysql::prelude::Queryable;
use mysql::{ClientIdentity, Conn, DriverError, OptsBuilder, ResultSet, SslOpts, Text, Value};
use mysql_common::proto::codec::error::PacketCodecError;

use crate::deadline::{Deadline, Step};
use crate::option_file::Secret;
use crate::rows::Rows;
use crate::tls::{self, Mode, Tls};

/// The largest packet that is accepted, in bytes. Replication status rows carry GTID sets, which can be long.
const PACKET_MAX: usize = 16 * 1024 * 1024;
/// The most rows that are kept of an answer; `MySQL` allows 256 channels.
const ROWS_MAX: usize = 1024;

/// What is said before the reason of a server that was asked on its extra port.
pub const FULL_HOUSE: &str = "too many connections (1040), asked on the extra port";
/// All connections are taken (`ER_CON_COUNT_ERROR`).
const TOO_MANY_CONNECTIONS: u16 = 1040;

/// The server to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Where it still listens when all connections are taken.
    pub extra: Option<Endpoint>,
    /// What is asked of a connection over TCP; `None` for no TLS.
    pub tls: Option<Tls>,
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The path of a Unix socket.
    Socket(String),
    /// A host name or address, and a TCP port.
    Tcp(String, u16),
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

/// Why the server gave no answer: our words, and its error number where it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    words: String,
    code: Option<u16>,
    privilege: Option<&'static str>,
}

/// The privileges that a server may ask for. Its own text is not passed on, and no other word of it is.
const PRIVILEGES: [&str; 5] =
    ["REPLICATION CLIENT", "REPLICATION SLAVE ADMIN", "SLAVE MONITOR", "REPLICA MONITOR", "BINLOG MONITOR"];

impl ServerError {
    /// The server's error number; `None` when the error is not the server's.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.code
    }

    /// The privilege that is missing, where the server names one.
    #[must_use]
    pub fn privilege(&self) -> Option<&'static str> {
        self.privilege
    }

    fn of(words: &str) -> ServerError {
        ServerError { words: words.to_owned(), code: None, privilege: None }
    }

    fn new(cannot: &str, error: &mysql::Error) -> ServerError {
        let (why, code) = explain(error);
        let privilege = match error {
            mysql::Error::MySqlError(refusal) => PRIVILEGES.into_iter().find(|name| refusal.message.contains(name)),
            _ => None,
        };
        ServerError { words: format!("cannot {cannot}: {why}"), code, privilege }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for ServerError {}

/// Which family of servers answers. The greeting of a `MariaDB` begins with `5.5.5-` or has `-MariaDB` in it; a `MariaDB`
/// whose option `version` hides that is taken for a `MySQL` of that version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `MariaDB`, any version.
    MariaDb,
    /// `MySQL`, Percona Server or XtraDB Cluster, with its version.
    MySql(u16, u16, u16),
}

impl Family {
    /// From what the driver makes of a greeting, with our stand-in for `regex`: no other one has this constant.
    fn from_version(version: (u16, u16, u16)) -> Family {
        match version {
            regex::MARIADB => Family::MariaDb,
            (major, minor, patch) => Family::MySql(major, minor, patch),
        }
    }
}

/// A connection that is logged in. Dropping it says goodbye to the server (`COM_QUIT`).
#[derive(Debug)]
pub struct Session<'d> {
    conn: Conn,
    deadline: &'d Deadline,
    beside_a_full_house: bool,
}

impl<'d> Session<'d> {
    /// Connects and logs in; on the extra port, where there is one, when all connections are taken.
    ///
    /// # Errors
    /// When nobody listens, TLS cannot be had as asked, or the login is refused.
    pub fn open(target: &Target, account: &Account, deadline: &'d Deadline) -> Result<Session<'d>, ServerError> {
        let Target { endpoint, extra, tls } = target;
        let has_password = account.password.as_ref().is_some_and(|password| !password.reveal().is_empty());
        let log_in =
            |endpoint| even_without_password(has_password, || log_in(endpoint, tls.as_ref(), account, deadline));
        match (log_in(endpoint), extra) {
            (Err(full), Some(extra)) if full.code() == Some(TOO_MANY_CONNECTIONS) => {
                let also = |error| ServerError::of(&format!("too many connections (1040), then {error}"));
                let conn = log_in(extra).map_err(also)?;
                Ok(Session { conn, deadline, beside_a_full_house: true })
            }
            (conn, _) => Ok(Session { conn: conn?, deadline, beside_a_full_house: false }),
        }
    }

    /// The family of the server.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::from_version(self.conn.server_version())
    }

    /// Whether all connections were taken, and the extra port let us in.
    #[must_use]
    pub fn is_beside_a_full_house(&self) -> bool {
        self.beside_a_full_house
    }

    /// Runs one statement in the text protocol: a Galera node that is not ready refuses prepared statements.
    ///
    /// # Errors
    /// When the server refuses it or goes away, and for an answer of more than 1024 rows.
    pub fn query(&mut self, statement: &str) -> Result<Rows, ServerError> {
        self.query_each(&[statement]).pop().unwrap_or_else(|| Err(ServerError::of("cannot query: no answer")))
    }

    /// Runs several statements in one round trip (one `COM_QUERY`), and gives the answer of each, as [`Session::query`]
    /// does. What comes after an error was not run and is not there.
    pub fn query_each(&mut self, statements: &[&str]) -> Vec<Result<Rows, ServerError>> {
        self.deadline.enter(Step::Query);
        let mut answer = match self.conn.query_iter(statements.join("; ")) {
            Ok(answer) => answer,
            Err(error) => return vec![Err(ServerError::new("query", &error))],
        };
        let mut sets: Vec<Result<Rows, ServerError>> = Vec::new();
        while sets.len() < statements.len() && sets.last().is_none_or(Result::is_ok) {
            let Some(set) = answer.iter() else { break };
            sets.push(rows(set));
        }
        // The driver may panic while it drops what is left, and then a value that is being returned is leaked.
        drop(answer);
        sets
    }
}

/// The rows of one answer.
fn rows(set: ResultSet<'_, '_, '_, '_, Text>) -> Result<Rows, ServerError> {
    let columns: Vec<String> = set.columns().as_ref().iter().map(|column| column.name_str().into_owned()).collect();
    let is_empty = columns.is_empty();
    let mut rows: Vec<Vec<Option<String>>> = Vec::new();
    for row in set {
        rows.push(row.map_err(|error| ServerError::new("query", &error))?.unwrap().into_iter().map(text).collect());
        if rows.len() > ROWS_MAX {
            return Err(ServerError::of(&format!("cannot query: more than {ROWS_MAX} rows")));
        }
    }
    // Whatever we ask has columns. Somebody in between may answer a statement that he swallowed with a bare OK.
    if is_empty {
        Err(ServerError::of("cannot query: the answer has no columns"))
    } else {
        Ok(Rows::new(columns, rows))
    }
}

/// Without a password the driver panics on an account of `parsec`, which always asks for one (28.0.4).
fn even_without_password<T>(has: bool, log_in: impl FnOnce() -> Result<T, ServerError>) -> Result<T, ServerError> {
    // What panics is dropped half-way, and nothing of it is used afterwards.
    match panic::catch_unwind(AssertUnwindSafe(log_in)) {
        Err(_) if !has => Err(ServerError::of("cannot log in: the driver gave up, it was given no password")),
        Err(panic) => panic::resume_unwind(panic),
        Ok(done) => done,
    }
}

fn log_in(endpoint: &Endpoint, tls: Option<&Tls>, account: &Account, deadline: &Deadline) -> Result<Conn, ServerError> {
    let options = OptsBuilder::new()
        .user(Some(account.user.as_str()))
        .pass(account.password.as_ref().map(Secret::reveal))
        // Each of these would cost a query or a second connection.
        .prefer_socket(false)
        .max_allowed_packet(Some(PACKET_MAX))
        .connect_attrs(None::<std::collections::HashMap<String, String>>)
        .stmt_cache_size(0);
    match endpoint {
        Endpoint::Socket(path) => {
            deadline.enter(Step::Connect);
            Conn::new(options.socket(Some(path.as_str()))).map_err(|error| login_error(endpoint, &error))
        }
        Endpoint::Tcp(host, port) => {
            let options = match tls {
                Some(tls) => {
                    tls.ensure_files().map_err(|error| ServerError::of(&format!("{error:#}")))?;
                    options.ssl_opts(ssl_opts(tls))
                }
                None => options,
            };
            let addresses = resolve(host, *port, deadline)?;
            let ways = match tls {
                Some(Tls { mode: Mode::VerifyIdentity, .. }) => by_name(host, *port, &addresses),
                _ => addresses.iter().map(|address| (address.ip().to_string(), address.port(), None)).collect(),
            };
            deadline.enter(Step::Connect);
            let conn = match connect_by_any(&options, &ways) {
                Err(mysql::Error::DriverError(DriverError::TlsNotSupported))
                    if tls.is_some_and(|tls| tls.mode == Mode::Preferred) =>
                {
                    // The driver hangs up where TLS is not offered, so this is a second connection.
                    connect_by_any(&options.ssl_opts(None::<SslOpts>), &ways)
                }
                conn => conn,
            };
            conn.map_err(|error| login_error(endpoint, &error))
        }
    }
}

fn ssl_opts(tls: &Tls) -> SslOpts {
    let identity = tls.identity.clone().map(|(certificate, key)| ClientIdentity::new(certificate, key));
    SslOpts::default()
        .with_root_cert_path(tls.authorities.clone())
        .with_client_identity(identity)
        .with_danger_accept_invalid_certs(!tls.mode.verifies())
        .with_danger_skip_domain_validation(tls.mode != Mode::VerifyIdentity)
}

/// In the text protocol a value is bytes or NULL.
fn text(value: Value) -> Option<String> {
    match value {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}

/// The addresses of a host, in their order.
fn resolve(host: &str, port: u16, deadline: &Deadline) -> Result<Vec<SocketAddr>, ServerError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    deadline.enter(Step::Resolve);
    let unknown = || ServerError::of(&format!("cannot look up host name {host}"));
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(|_| unknown())?.collect();
    if addresses.is_empty() {
        return Err(unknown());
    }
    Ok(addresses)
}

/// A host and port as the driver is given them, and our own end of the connection.
type Way = (String, u16, Option<SocketAddr>);

/// The driver verifies the name that it connects to, so it looks it up itself. It stops at the first address where nobody
/// listens (28.0.4); told which end is ours, it goes on through the addresses of that family.
fn by_name(host: &str, port: u16, addresses: &[SocketAddr]) -> Vec<Way> {
    let way = |our_end| (host.to_owned(), port, our_end);
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let families = any.into_iter().filter(|any| addresses.iter().any(|address| address.is_ipv4() == any.is_ipv4()));
    let others = families.filter(|_| addresses.len() > 1).map(|any| way(Some(SocketAddr::new(any, 0))));
    [way(None)].into_iter().chain(others).collect()
}

/// Tries the ways to a host in their order; only one where nobody listens sends us on to the next.
fn connect_by_any(options: &OptsBuilder, ways: &[Way]) -> mysql::Result<Conn> {
    let mut first = None;
    for (host, port, our_end) in ways {
        // The driver wants an IPv6 address as it stands in a URL.
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match Conn::new(options.clone().ip_or_hostname(Some(host)).tcp_port(*port).bind_address(*our_end)) {
            Err(error @ mysql::Error::DriverError(DriverError::CouldNotConnect(_))) => first = first.or(Some(error)),
            conn => return conn,
        }
    }
    Err(first.unwrap_or(mysql::Error::DriverError(DriverError::CouldNotConnect(None))))
}

fn login_error(endpoint: &Endpoint, error: &mysql::Error) -> ServerError {
    let to_connect = matches!(error, mysql::Error::DriverError(DriverError::CouldNotConnect(_)));
    if to_connect {
        ServerError::new(&format!("connect to {endpoint}"), error)
    } else {
        ServerError::new("log in", error)
    }
}

/// Our words for what went wrong, and the server's number for it.
fn explain(error: &mysql::Error) -> (String, Option<u16>) {
    use mysql::Error::{CodecError, DriverError as FromDriver, IoError, MySqlError, TlsError as FromTls};
    match error {
        MySqlError(refusal) => (server_words(refusal.code), Some(refusal.code)),
        // Before TLS is spoken: the certificates are our own.
        FromTls(TlsError::Tls(rustls::Error::InvalidCertificate(_))) => {
            ("a certificate in `ssl-ca` or `ssl-cert` cannot be read".into(), None)
        }
        FromTls(TlsError::Tls(error)) => (tls::words(error), None),
        FromTls(_) => ("TLS cannot be used as configured".into(), None),
        IoError(error) | CodecError(PacketCodecError::Io(error)) => {
            // TLS is spoken while reading and writing.
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            (tls.map_or_else(|| io_words(error.kind()), tls::words), None)
        }
        FromDriver(DriverError::TlsNotSupported) => ("the server offers no TLS".into(), None),
        FromDriver(DriverError::CouldNotConnect(Some((_, _, kind)))) => (io_words(*kind), None),
        FromDriver(DriverError::UnknownAuthPlugin(plugin)) => {
            (format!("authentication plugin `{plugin}` is not supported"), None)
        }
        FromDriver(DriverError::OldMysqlPasswordDisabled | DriverError::CleartextPluginDisabled) => {
            ("the server asks for an unsafe authentication plugin".into(), None)
        }
        FromDriver(DriverError::UnsupportedProtocol(version)) => {
            (format!("the server speaks protocol {version}, not 10"), None)
        }
        FromDriver(DriverError::PacketTooLarge) => ("the answer is too large".into(), None),
        CodecError(_) | FromDriver(_) => ("the server sent what is not its protocol".into(), None),
        _ => ("the answer cannot be read".into(), None),
    }
}

fn io_words(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::NotFound => "no such socket".into(),
        // Such as a link-local address of IPv6 without its interface. The length of a socket's path is looked at before.
        ErrorKind::InvalidInput => "the system does not take this address".into(),
        ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted => "the server closed the connection".into(),
        ErrorKind::InvalidData => "the server sent what is not its protocol".into(),
        kind => kind.to_string(),
    }
}

/// Source: the error references of `MySQL` 9.4 and `MariaDB` 11.8.
fn server_words(code: u16) -> String {
    let words = match code {
        1040 => "too many connections",
        1045 | 1698 => "access denied",
        1044 | 1142 | 1227 => "missing privilege",
        1047 => "the node is not ready",
        1053 => "the server is shutting down",
        1049 => "no such database",
        1054 => "no such column",
        1064 => "syntax error",
        1129 => "this host is blocked",
        1130 => "this host is not allowed",
        1146 => "no such table",
        1193 => "unknown system variable",
        1203 => "too many connections of this account",
        // Of connections, at once or in an hour, or of queries: only its text would say.
        1226 => "the account has reached a limit of its own",
        1820 | 1862 => "the password has expired",
        3032 => "the server is in offline mode",
        3159 => "the server requires TLS, set `ssl-mode`",
        3118 | 4151 => "the account is locked",
        _ => return format!("error {code}"),
    };
    format!("{words} ({code})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_common::constants::{CapabilityFlags, StatusFlags};
    use mysql_common::packets::HandshakePacket;

    #[test]
    fn families_are_told_by_their_greeting() {
        let family = |greeting: &str| {
            let (salt, none) = (*b"abcdefgh", CapabilityFlags::empty());
            let packet = HandshakePacket::new(
                10,
                greeting.as_bytes(),
                1,
                salt,
                None::<&[u8]>,
                none,
                33,
                StatusFlags::empty(),
                None::<&[u8]>,
            );
            Family::from_version(packet.server_version_parsed().unwrap())
        };
        for greeting in ["5.5.5-10.11.19-MariaDB-0+deb12u1", "11.8.6-MariaDB", "11.4.5-3-MariaDB-enterprise-log"] {
            assert_eq!(family(greeting), Family::MariaDb, "{greeting}");
        }
        assert_eq!(family("5.7.44-log"), Family::MySql(5, 7, 44));
        assert_eq!(family("9.7.4"), Family::MySql(9, 7, 4));
        assert_eq!(family("10.0.0"), Family::MySql(10, 0, 0));
        assert_eq!(family("11.8.6"), Family::MySql(11, 8, 6));
    }

    #[test]
    fn a_name_that_is_verified_leads_to_all_its_addresses() {
        let addresses = ["[::1]:3306".parse().unwrap(), "127.0.0.1:3306".parse().unwrap()];
        let way = |our_end: Option<&str>| ("db01".to_owned(), 3306, our_end.map(|end| end.parse().unwrap()));
        assert_eq!(by_name("db01", 3306, &addresses), [way(None), way(Some("0.0.0.0:0")), way(Some("[::]:0"))]);
        assert_eq!(by_name("db01", 3306, &addresses[..1]), [way(None)]);
    }

    #[test]
    fn a_driver_that_wants_a_password_is_no_mystery() {
        let log_in = |has| even_without_password(has, || -> Result<(), _> { panic!("wanted one") });
        let words = "cannot log in: the driver gave up, it was given no password";
        assert_eq!(log_in(false), Err(ServerError::of(words)));
        assert!(panic::catch_unwind(|| log_in(true)).is_err());
    }

    #[test]
    fn a_broken_certificate_of_ours_is_not_the_servers() {
        let broken = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let ours = mysql::Error::TlsError(TlsError::Tls(broken.clone()));
        assert_eq!(explain(&ours).0, "a certificate in `ssl-ca` or `ssl-cert` cannot be read");
        let theirs = mysql::Error::IoError(std::io::Error::new(ErrorKind::InvalidData, broken));
        assert_eq!(explain(&theirs).0, "the server's certificate cannot be used (BadEncoding)");
    }

    #[test]
    fn an_address_that_the_system_refuses_is_not_a_long_path() {
        let refused =
            DriverError::CouldNotConnect(Some(("[fe80::1]:3306".into(), String::new(), ErrorKind::InvalidInput)));
        let error = login_error(&Endpoint::Tcp("fe80::1".into(), 3306), &refused.into());
        let words = "cannot connect to [fe80::1]:3306: the system does not take this address";
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn an_endpoint_is_shown_as_it_is_written() {
        assert_eq!(Endpoint::Socket("/run/mysqld/mysqld.sock".into()).to_string(), "/run/mysqld/mysqld.sock");
        assert_eq!(Endpoint::Tcp("db01".into(), 3306).to_string(), "db01:3306");
        assert_eq!(Endpoint::Tcp("::1".into(), 3306).to_string(), "[::1]:3306");
    }

    #[test]
    fn server_errors_are_our_words_and_the_number() {
        let refusal =
            mysql::MySqlError { state: "28000".into(), message: "Access denied for user 't'".into(), code: 1045 };
        let error = ServerError::new("log in", &refusal.into());
        assert_eq!(error.to_string(), "cannot log in: access denied (1045)");
        assert_eq!(error.code(), Some(1045));
        let refusal = mysql::MySqlError { state: "HY000".into(), message: "secret".into(), code: 4242 };
        assert_eq!(ServerError::new("query", &refusal.into()).to_string(), "cannot query: error 4242");
        let message =
            "Access denied; you need (at least one of) the SUPER, SLAVE MONITOR privilege(s) for this operation";
        let refusal = mysql::MySqlError { state: "42000".into(), message: message.into(), code: 1227 };
        let error = ServerError::new("query", &refusal.into());
        assert_eq!(
            (error.to_string().as_str(), error.privilege()),
            ("cannot query: missing privilege (1227)", Some("SLAVE MONITOR"))
        );
    }
}
