//! One session: connect, log in, ask, and nothing that the driver would like to ask on its own.
//!
//! The only file that knows the driver.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use mysql::error::tls::TlsError;
use mysql::prelude::Queryable;
use mysql::{ClientIdentity, Conn, DriverError, OptsBuilder, QueryResult, ResultSet, SslOpts, Text, Value};
use mysql_common::proto::codec::error::PacketCodecError;

use crate::endpoint::{self, Account, Endpoint, Target};
use crate::error::{ER_ACCESS_DENIED_ERROR, ER_CON_COUNT_ERROR, Error, io_words};
use crate::family::Family;
use crate::rows::{Row, Rows};
use crate::tls::{self, Mode, Tls};
use crate::trusted::Secret;
use crate::watch::{Stage, Watch};

/// What a program says before the verdict on a server that let it in on its extra port only.
pub const VIA_EXTRA_PORT: &str = "too many connections (1040), asked on the extra port";

/// What cannot be done when a statement fails.
const QUERY: &str = "query";

/// What a session may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The time to connect; `None` for a program whose deadline ends it. The driver has no such limit for a Unix socket.
    pub connect: Option<Duration>,
    /// The time between two packets of the server, and the same for what is sent; `None` as above.
    pub silence: Option<Duration>,
    /// The largest packet that is accepted, in bytes.
    pub packet: usize,
    /// The most rows of one answer.
    pub rows: usize,
}

/// A connection that is logged in. Dropping it says goodbye to the server (`COM_QUIT`).
pub struct Session<'w> {
    conn: Conn,
    rows_max: usize,
    watch: &'w dyn Watch,
    via_extra_port: bool,
}

/// The answers to several statements; what comes after an error was not run and is not there.
pub type Answers = Vec<Result<Rows, Error>>;

impl<'w> Session<'w> {
    /// Connects and logs in; on the extra port, where there is one, when all connections are taken.
    ///
    /// # Errors
    /// When nothing listens there, TLS is not possible as configured, or the login is refused.
    pub fn open(
        target: &Target,
        account: &Account,
        limits: &Limits,
        watch: &'w dyn Watch,
    ) -> Result<Session<'w>, Error> {
        let log_in = |endpoint| log_in(endpoint, target.tls.as_ref(), account, limits, watch);
        let session = |conn, via_extra_port| Session { conn, rows_max: limits.rows, watch, via_extra_port };
        match (log_in(&target.endpoint), &target.extra) {
            (Err(full), Some(extra)) if full.is(&[ER_CON_COUNT_ERROR]) => match log_in(extra) {
                Ok(conn) => Ok(session(conn, true)),
                Err(error) => Err(Error::new(format!("too many connections (1040), then {error}"))),
            },
            (conn, _) => Ok(session(conn?, false)),
        }
    }

    /// The family of the server, by its greeting.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::from_version(self.conn.server_version())
    }

    /// Whether all connections were taken and the extra port let us in: see [`VIA_EXTRA_PORT`].
    #[must_use]
    pub fn is_via_extra_port(&self) -> bool {
        self.via_extra_port
    }

    /// Runs one statement in the text protocol: a Galera node that is not ready refuses prepared statements.
    ///
    /// # Errors
    /// When the server refuses it or goes away, for an answer without columns and for one with too many rows.
    pub fn query(&mut self, statement: &str) -> Result<Rows, Error> {
        self.query_each(&[statement]).pop().unwrap_or_else(|| Err(Error::cannot(QUERY, "no answer")))
    }

    /// Runs several statements in one round trip (one `COM_QUERY`), each as [`Session::query`] does.
    pub fn query_each(&mut self, statements: &[impl AsRef<str>]) -> Answers {
        self.watch.begin(Stage::Query);
        let text = statements.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("; ");
        let mut answer = match self.conn.query_iter(text) {
            Ok(answer) => answer,
            Err(error) => return vec![Err(explain(QUERY, &error))],
        };
        let mut sets = Answers::new();
        while sets.len() < statements.len() && sets.last().is_none_or(Result::is_ok) {
            let Some(set) = answer.iter() else { break };
            sets.push(rows(set, self.rows_max));
        }
        // The driver may panic while it drops what is left, and then a value that is being returned is leaked. Goes when the
        // driver returns an error for what it cannot parse there.
        drop(answer);
        sets
    }

    /// Runs the statements for this server's family, as [`Session::query_each`] does, and returns the family that answered.
    ///
    /// A `MariaDB` can be configured to greet as a `MySQL` (`version=8.0.11`). Where the answers to the statements for a
    /// `MySQL` show that (`is_mariadb`), those for a `MariaDB` are run.
    pub fn query_by_family<S: AsRef<str>>(
        &mut self,
        statements: impl Fn(Family) -> Vec<S>,
        is_mariadb: impl FnOnce(&Answers) -> bool,
    ) -> (Family, Answers) {
        let family = self.family();
        let answers = self.query_each(&statements(family));
        if family != Family::MariaDb && is_mariadb(&answers) {
            return (Family::MariaDb, self.query_each(&statements(Family::MariaDb)));
        }
        (family, answers)
    }

    /// Runs one statement and hands over its rows as they come: for more of them than [`Limits::rows`].
    ///
    /// # Errors
    /// When the server refuses it or goes away.
    pub fn query_rows(&mut self, statement: &str, mut take: impl FnMut(&Row)) -> Result<(), Error> {
        self.watch.begin(Stage::Query);
        let answer = self.conn.query_iter(statement).map_err(|error| explain(QUERY, &error))?;
        let columns = columns(&answer);
        for row in answer {
            let values = row.map_err(|error| explain(QUERY, &error))?.unwrap().into_iter().map(text).collect();
            take(&Row::new(&columns, values));
        }
        Ok(())
    }

    /// Runs a statement that returns no rows, such as `SET` or `INSERT`, and returns how many rows it changed.
    ///
    /// # Errors
    /// When the server refuses it or goes away.
    pub fn execute(&mut self, statement: &str) -> Result<u64, Error> {
        self.watch.begin(Stage::Query);
        self.conn.query_drop(statement).map_err(|error| explain(QUERY, &error))?;
        Ok(self.conn.affected_rows())
    }
}

/// The rows of one answer.
fn rows(set: ResultSet<'_, '_, '_, '_, Text>, rows_max: usize) -> Result<Rows, Error> {
    let columns = columns(&set);
    let is_empty = columns.is_empty();
    let mut rows: Vec<Vec<Option<String>>> = Vec::new();
    for row in set {
        rows.push(row.map_err(|error| explain(QUERY, &error))?.unwrap().into_iter().map(text).collect());
        if rows.len() > rows_max {
            return Err(Error::cannot(QUERY, &format!("more than {rows_max} rows")));
        }
    }
    // Every statement we send here returns columns. A proxy that drops one may reply with a bare OK.
    if is_empty { Err(Error::cannot(QUERY, "the answer has no columns")) } else { Ok(Rows::new(columns, rows)) }
}

/// The names of the columns of one answer.
fn columns(set: &QueryResult<'_, '_, '_, Text>) -> Arc<[String]> {
    set.columns().as_ref().iter().map(|column| column.name_str().into_owned()).collect()
}

/// In the text protocol a value is bytes or NULL.
fn text(value: Value) -> Option<String> {
    match value {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}

fn log_in(
    endpoint: &Endpoint,
    tls: Option<&Tls>,
    account: &Account,
    limits: &Limits,
    watch: &dyn Watch,
) -> Result<Conn, Error> {
    let options = OptsBuilder::new()
        .user(Some(account.user.as_str()))
        .pass(account.password.as_ref().map(Secret::reveal))
        // Each of these would cost a query or a second connection.
        .prefer_socket(false)
        .max_allowed_packet(Some(limits.packet))
        .connect_attrs(None::<HashMap<String, String>>)
        .stmt_cache_size(0)
        .tcp_connect_timeout(limits.connect)
        .read_timeout(limits.silence)
        .write_timeout(limits.silence);
    let connect = || match endpoint {
        Endpoint::Socket(path) => {
            watch.begin(Stage::Connect);
            Conn::new(options.clone().socket(Some(path.as_str()))).map_err(|error| login_error(endpoint, &error))
        }
        Endpoint::Tcp(host, port) => {
            connect_over_tcp(&options, host, *port, tls, watch)?.map_err(|error| login_error(endpoint, &error))
        }
    };
    let has_password = account.password.as_ref().is_some_and(|password| !password.reveal().is_empty());
    once_more(has_password, connect)
}

/// Logs in, and once more where the driver may be to blame. It takes a zero at the end of the challenge of `ed25519` and
/// `parsec` for a terminator (`mysql_common` 0.37.3), which one challenge in 256 has: then `ed25519` refuses the right
/// password, and `parsec` is a panic. The next challenge is another one. Goes with `mysql_common` 0.38.
///
/// Without a password `parsec` is always a panic (28.0.4). Goes when the driver returns an error.
fn once_more<T>(has_password: bool, log_in: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    // What panics is dropped half-way, and nothing of it is used afterwards.
    match panic::catch_unwind(AssertUnwindSafe(&log_in)) {
        Err(_) if !has_password => Err(Error::cannot("log in", "the authentication plugin needs a password")),
        Err(_) => log_in(),
        Ok(Err(error)) if has_password && error.is(&[ER_ACCESS_DENIED_ERROR]) => log_in(),
        Ok(done) => done,
    }
}

fn connect_over_tcp(
    options: &OptsBuilder,
    host: &str,
    port: u16,
    tls: Option<&Tls>,
    watch: &dyn Watch,
) -> Result<mysql::Result<Conn>, Error> {
    if let Some(tls) = tls {
        tls.ensure_files(watch).map_err(|error| Error::new(format!("{error:#}")))?;
    }
    let addresses = if let Some(address) = endpoint::address(host, port) {
        vec![address]
    } else {
        watch.begin(Stage::Resolve);
        endpoint::resolve(host, port).ok_or_else(|| Error::new(format!("cannot look up host name {host}")))?
    };
    let routes = match tls {
        Some(Tls { mode: Mode::VerifyIdentity, .. }) => routes_by_name(host, port, &addresses),
        _ => addresses.iter().map(|address| (address.ip().to_string(), address.port(), None)).collect(),
    };
    watch.begin(Stage::Connect);
    let conn = connect_by_any(&options.clone().ssl_opts(tls.map(ssl_opts)), &routes);
    Ok(match conn {
        Err(mysql::Error::DriverError(DriverError::TlsNotSupported))
            if tls.is_some_and(|tls| tls.mode == Mode::Preferred) =>
        {
            // The driver closes the connection where TLS is not offered, so this is a second one. Goes when the driver can go on
            // without TLS.
            connect_by_any(options, &routes)
        }
        conn => conn,
    })
}

fn ssl_opts(tls: &Tls) -> SslOpts {
    let identity = tls.identity.clone().map(|(certificate, key)| ClientIdentity::new(certificate, key));
    SslOpts::default()
        .with_root_cert_path(tls.authorities.clone())
        .with_client_identity(identity)
        .with_danger_accept_invalid_certs(!tls.mode.verifies())
        .with_danger_skip_domain_validation(tls.mode != Mode::VerifyIdentity)
}

/// A host and port as the driver takes them, and the local end of the connection.
type Route = (String, u16, Option<SocketAddr>);

/// The driver verifies the name that it connects to, so it looks it up itself. It stops at the first address where
/// nothing listens (28.0.4); with a local address it goes on through the addresses of that family. Goes
/// when the driver tries every address, or takes the name to verify apart from the address.
fn routes_by_name(host: &str, port: u16, addresses: &[SocketAddr]) -> Vec<Route> {
    let route = |local| (host.to_owned(), port, local);
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let families = any.into_iter().filter(|any| addresses.iter().any(|address| address.is_ipv4() == any.is_ipv4()));
    let others = families.filter(|_| addresses.len() > 1).map(|any| route(Some(SocketAddr::new(any, 0))));
    [route(None)].into_iter().chain(others).collect()
}

/// Tries the routes to a host in their order, and the next one only where nothing listens.
fn connect_by_any(options: &OptsBuilder, routes: &[Route]) -> mysql::Result<Conn> {
    let mut first = None;
    for (host, port, local) in routes {
        // The driver takes an IPv6 address only as it stands in a URL.
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match Conn::new(options.clone().ip_or_hostname(Some(host)).tcp_port(*port).bind_address(*local)) {
            Err(error @ mysql::Error::DriverError(DriverError::CouldNotConnect(_))) => first = first.or(Some(error)),
            conn => return conn,
        }
    }
    Err(first.unwrap_or(mysql::Error::DriverError(DriverError::CouldNotConnect(None))))
}

fn login_error(endpoint: &Endpoint, error: &mysql::Error) -> Error {
    match error {
        mysql::Error::DriverError(DriverError::CouldNotConnect(_)) => explain(&format!("connect to {endpoint}"), error),
        _ => explain("log in", error),
    }
}

/// Our words for why something cannot be done.
fn explain(what: &str, error: &mysql::Error) -> Error {
    use mysql::Error::{CodecError, DriverError as FromDriver, IoError, MySqlError, TlsError as FromTls};
    let why: String = match error {
        MySqlError(refusal) => return Error::refused(what, refusal.code, &refusal.message),
        // Before TLS begins: the certificates are our own.
        FromTls(TlsError::Tls(rustls::Error::InvalidCertificate(_))) => {
            "a certificate in `ssl-ca` or `ssl-cert` cannot be read".into()
        }
        FromTls(TlsError::Tls(error)) => tls::words(error),
        FromTls(_) => "TLS cannot be used as configured".into(),
        IoError(error) | CodecError(PacketCodecError::Io(error)) => {
            // An error of TLS comes out of a read or a write.
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            tls.map_or_else(|| io_words(error.kind()), tls::words)
        }
        FromDriver(DriverError::TlsNotSupported) => "the server does not offer TLS".into(),
        FromDriver(DriverError::CouldNotConnect(Some((_, _, kind)))) => io_words(*kind),
        FromDriver(DriverError::UnknownAuthPlugin(plugin)) => {
            format!("authentication plugin `{plugin}` is not supported")
        }
        FromDriver(DriverError::OldMysqlPasswordDisabled | DriverError::CleartextPluginDisabled) => {
            "the server asks for an unsafe authentication plugin".into()
        }
        FromDriver(DriverError::UnsupportedProtocol(version)) => {
            format!("the server uses protocol {version}, not 10")
        }
        // What looks like a large packet during a login is another protocol.
        CodecError(PacketCodecError::PacketTooLarge) if what == QUERY => "the answer is too large".into(),
        FromDriver(DriverError::PacketTooLarge) => "the answer is too large".into(),
        CodecError(_) | FromDriver(_) => "the reply is not the MySQL protocol".into(),
        _ => "the answer cannot be read".into(),
    };
    Error::cannot(what, &why)
}

#[cfg(test)]
mod tests;
