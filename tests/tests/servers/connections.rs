//! A server that is full, and what names and addresses lead to it.

use std::net::{SocketAddrV4, TcpListener};
use std::time::Duration;

use lab::scratch::Scratch;
use lab::server::{PASSWORD, PORT, Server};
use lab::software::Software;
use lab::{address, machine, wait};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::table::{Table, Transport, UP, session};

const TCP: &str = "--host=ADDRESS --defaults-file=DIR/right.cnf --user=mysqlchk_tcp";
const SOCKET: &str = "--socket=SOCKET --defaults-file=DIR/right.cnf --user=mysqlchk_tcp";
const FULL: &str = "down: cannot log in: too many connections (1040)";
const BESIDE: &str = "up: too many connections (1040), asked on the extra port: the server answers, read_only is OFF";

/// Takes all connections.
fn fill(server: &Server) -> Vec<Conn> {
    let mut held = Vec::new();
    loop {
        match session(server, "nopriv") {
            Ok(conn) => held.push(conn),
            Err(mysql::Error::MySqlError(error)) if error.code == 1040 => return held,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What the server counts of connections: all, refused for lack of room, and refused for another reason.
fn counts(session: &mut Conn) -> [u64; 3] {
    ["Connections", "Connection_errors_max_connections", "Aborted_connects"].map(|name| {
        let row: Option<(String, u64)> = session.query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'")).unwrap();
        row.unwrap_or_else(|| panic!("no status {name}")).1
    })
}

/// A session of the admin on the port that is kept for him: the one eye that sees a full server from inside.
fn keyhole(port: SocketAddrV4) -> Conn {
    let options = OptsBuilder::new().ip_or_hostname(Some(port.ip().to_string())).tcp_port(port.port());
    Conn::new(options.prefer_socket(false).user(Some("admin")).pass(Some(PASSWORD))).unwrap()
}

/// Waits until the checks are gone: the next one would meet them.
fn settle(session: &mut Conn) {
    let checks = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                  WHERE USER IN ('mysqlchk_tcp', 'guard', 'unauthenticated user')";
    wait::until("the checks are gone", Duration::from_secs(60), || {
        session.query_first::<u32, _>(checks).unwrap() == Some(0)
    });
}

/// All connections taken: without an extra port, with one, and with one where nobody listens or answers.
fn full(table: &mut Table, server: &Server, options: &str, extra: SocketAddrV4) -> Vec<Conn> {
    let mut inside = keyhole(extra);
    let beside = format!("{options} --extra-port=EXTRA");
    let transport = if options.contains("SOCKET") { Transport::Socket } else { Transport::Plain };
    table.up("not full", &beside, &transport);
    // Its goodbye is still on its way, and it would be one of those that fill the server.
    settle(&mut inside);
    let held = fill(server);
    // On MySQL the admin's own session is one of the ten.
    assert_eq!(held.len(), if server.software().is_mysql() { 9 } else { 10 });
    // One more is let in, to see whether it is an administrator. For MySQL the privilege of the extra port makes it one.
    let reserve = "all connections taken but the reserve";
    table.row(reserve, &options.replace("mysqlchk_tcp", "nopriv"), FULL);
    if server.software().is_mysql() {
        table.up(reserve, &beside, &transport);
    } else {
        table.row(reserve, &beside, BESIDE);
    }
    settle(&mut inside);
    table.up(
        "all connections taken but the reserve, an administrator",
        &options.replace("mysqlchk_tcp", "guard"),
        &transport,
    );

    settle(&mut inside);
    let _reserve = wait::until_ok("the reserve is free", Duration::from_secs(60), || server.try_session());
    let taken = "all connections taken";
    let before = counts(&mut inside);
    table.row(taken, options, FULL);
    let refused = counts(&mut inside);
    table.row(taken, &beside, BESIDE);
    let let_in = counts(&mut inside);
    let rise = |from: [u64; 3], to: [u64; 3]| [to[0] - from[0], to[1] - from[1], to[2] - from[2]];
    // One try of each port. MariaDB counts what it refuses for lack of room as an aborted connect, too; MySQL does not.
    let aborted = u64::from(!server.software().is_mysql());
    assert_eq!([rise(before, refused), rise(refused, let_in)], [[0, 1, aborted], [1, 1, aborted]]);
    table.row(taken, &options.replace("mysqlchk_tcp", "guard"), FULL);
    // The socket's extra port is on 127.0.0.1, which the page does not name.
    let place = if transport == Transport::Socket { "ADDRESS:" } else { "ADDRESS:CLOSED:" };
    table.row(
        "all connections taken, extra port closed",
        &format!("{options} --extra-port=CLOSED"),
        &format!("down: too many connections (1040), then cannot connect to {place} connection refused"),
    );

    let silent = TcpListener::bind(SocketAddrV4::new(*extra.ip(), 0)).unwrap();
    table.name("SILENT", silent.local_addr().unwrap().port());
    let budget = Duration::from_millis(900);
    let (outcome, machine) = machine::beside_sleeps(budget, 1, || {
        table.row(
            "all connections taken, extra port silent",
            &format!("{options} --extra-port=SILENT --timeout=900ms"),
            "down: no verdict within 900ms (while logging in)",
        )
    });
    // Both tries have one deadline.
    assert!(outcome.elapsed < budget + budget / 2 + machine, "{outcome:?}, a sleep {machine:?} late");
    held
}

#[test]
fn connections_on_mariadb_10_11() {
    let scratch = Scratch::new("connections");
    let server =
        Server::start_of(Software::MariaDb, &["max_connections=10", "extra_port=3307", "extra_max_connections=2"]);
    server
        .sql(&format!("CREATE USER guard@'%' IDENTIFIED BY '{PASSWORD}'; GRANT CONNECTION ADMIN ON *.* TO guard@'%'"));
    let mut table = Table::new("Connections", &server, &scratch);
    table.name("EXTRA", 3307);
    table.name("CLOSED", 3308);
    let _held = full(&mut table, &server, TCP, SocketAddrV4::new(server.ip(), 3307));
    // The extra port of a check over the socket is on 127.0.0.1, where this server has none.
    let words = "down: too many connections (1040), then cannot connect to ADDRESS: connection refused";
    table.row("all connections taken, over the socket", &format!("{SOCKET} --extra-port=EXTRA"), words);
    table.close();
}

#[test]
fn connections_on_mysql_9() {
    let scratch = Scratch::new("connections");
    let admin = address::fresh_port();
    let (ip, port) = (format!("admin_address={}", admin.ip()), format!("admin_port={}", admin.port()));
    let server = Server::start_of(Software::MySql9, &["max_connections=10", &ip, &port]);
    let mut table = Table::new("Connections", &server, &scratch);
    table.name("EXTRA", admin.port());
    table.name("CLOSED", address::fresh_port().port());
    let held = fill(&server);
    let words = "down: too many connections (1040), then cannot log in: missing privilege (1227)";
    let extra = format!("{SOCKET} --extra-port=EXTRA");
    table.row("all connections taken, account without SERVICE_CONNECTION_ADMIN", &extra, words);
    drop(held);
    // The goodbyes of the nine are on their way. A server that is still full refuses the login, and nothing was done.
    let accounts = format!(
        "CREATE USER guard@'%' IDENTIFIED BY '{PASSWORD}'; GRANT CONNECTION_ADMIN ON *.* TO guard@'%'; \
         GRANT SERVICE_CONNECTION_ADMIN ON *.* TO mysqlchk_tcp@'%', mysqlchk_tcp@localhost"
    );
    wait::until_ok("the server has room", Duration::from_secs(60), || server.try_sql(&accounts));
    let _held = full(&mut table, &server, SOCKET, admin);
    table.close();
}

#[test]
fn names_and_addresses() {
    let scratch = Scratch::new("names");
    let server = Server::start();
    let mut table = Table::new("Names", &server, &scratch);
    let rest = "--defaults-file=DIR/right.cnf --user=mysqlchk_tcp";
    let localhost = format!("--host=localhost --socket=SOCKET {rest}");
    table.up("localhost means the socket", &localhost, &Transport::Socket);
    let port = format!("--host=localhost --port=3307 {rest}");
    let words = "down: `--host localhost` means the socket, so port 3307 would not be used: write `--host 127.0.0.1`";
    table.misconfigured("localhost means the socket", &port, words);

    let ip = server.ip();
    let hosts = format!("127.0.0.1 localhost\n::1 both localhost\n{ip} both\n::1 six\n{ip} four\n");
    assert!(!address::listens(([0, 0, 0, 0, 0, 0, 0, 1], PORT).into()), "something listens on [::1]:{PORT}");
    let by_name = |name: &str| format!("--host={name} {rest}");
    for (situation, name, verdict, transport) in [
        ("a name that is ::1 first", "both", UP, Transport::Plain),
        ("a name that is an IPv4 address", "four", UP, Transport::Plain),
        ("a name that is ::1 alone", "six", "down: cannot connect to six:3306: connection refused", Transport::None),
        ("no such name", "no-such-name", "down: cannot look up host name no-such-name", Transport::None),
    ] {
        table.named(situation, &hosts, &by_name(name), verdict, &transport);
    }
    table.row("nobody listens", &format!("--host=::1 {rest}"), "down: cannot connect to ADDRESS: connection refused");

    let words = "down: `--socket @mysql`: abstract sockets are not supported, write a path or `--host`";
    table.misconfigured("abstract socket", &format!("--socket=@mysql {rest}"), words);
    let long = format!("/{}", "a".repeat(107));
    let words = format!("down: `--socket` is 108 bytes long, the limit is 107: /aaaaaaaa...{}", "a".repeat(60));
    table.name("LONG", &long);
    table.misconfigured("long path of a socket", &format!("--socket=LONG {rest}"), &words);
    table.close();
}

/// IPv6 alone, on a port of its own: the interface has no more than one such address.
#[test]
fn names_and_addresses_over_ipv6() {
    let scratch = Scratch::new("names");
    let port = address::fresh_port().port();
    let server = Server::start_with(&["bind_address=::1", &format!("port={port}")]);
    let mut table = Table::new("IPv6", &server, &scratch);
    table.name("PORT", port);
    let rest = "--port=PORT --defaults-file=DIR/right.cnf --user=mysqlchk_tcp";
    table.up("server on ::1", &format!("--host=::1 {rest}"), &Transport::Plain);
    let hosts = "127.0.0.1 both\n::1 both\n";
    let situation = "server on ::1, a name that is 127.0.0.1, too";
    table.named(situation, hosts, &format!("--host=both {rest}"), UP, &Transport::Plain);
    table.row(
        "server on ::1",
        &format!("--host=127.0.0.1 {rest}"),
        "down: cannot connect to ADDRESS: connection refused",
    );
    table.close();
}
