//! Who gets in, and what is said of who does not: every way to log in that the servers have.

use std::time::Duration;

use lab::evidence::verdict_of;
use lab::program::Check;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::software::Software;
use lab::wait;

use crate::table::{DENIED, OWN, Table, Transport, UP, session};

const TCP: &str = "--host=ADDRESS --defaults-file=DIR/right.cnf --user=";
const SOCKET: &str = "--socket=SOCKET --defaults-file=DIR/right.cnf --user=";
const WRONG: &str = "--host=ADDRESS --defaults-file=DIR/wrong.cnf --user=";
const MOMENT: Duration = Duration::from_secs(5);
const NO_PASSWORD: &str = "--defaults-file=DIR/none.cnf";

/// An account for any host with the lab's password.
fn create(server: &Server, name: &str, how: &str) {
    server.sql(&format!("CREATE USER {name}@'%' {how}"));
}

/// What is the same on all of them, but for the numbers.
fn common(table: &mut Table, server: &Server, by_socket: &str, locked: u16) {
    let by_password = format!("IDENTIFIED BY '{PASSWORD}'");
    table.up("logs in as the system user", &format!("--socket=SOCKET {NO_PASSWORD} --user={OWN}"), &Transport::Socket);
    let other = "down: cannot log in: access denied (1698)";
    table.row("another system user", &format!("--socket=SOCKET {NO_PASSWORD} --user=mysqlchk"), other);
    create(server, "by_socket", by_socket);
    table.row("an account of the socket, over TCP", &format!("--host=ADDRESS {NO_PASSWORD} --user=by_socket"), other);

    create(server, "locked", &format!("{by_password} ACCOUNT LOCK"));
    let locked = format!("down: cannot log in: the account is locked ({locked})");
    table.row("locked account", &format!("{TCP}locked"), &locked);

    create(server, "single", &format!("{by_password} WITH MAX_USER_CONNECTIONS 1"));
    let single = format!("{TCP}single");
    table.row("MAX_USER_CONNECTIONS 1, no session", &single, UP);
    // The check's own session ends a moment after its answer.
    let held = wait::until_ok("the check is gone", MOMENT, || session(server, "single"));
    let limit = "the account has reached one of its limits (1226)";
    table.row("MAX_USER_CONNECTIONS 1, one session", &single, &format!("down: cannot log in: {limit}"));
    drop(held);

    create(server, "many", &by_password);
    server.sql("SET GLOBAL max_user_connections = 1");
    let held = session(server, "many").unwrap();
    table.row(
        "max_user_connections = 1, one session",
        &format!("{TCP}many"),
        "down: cannot log in: too many connections of this account (1203)",
    );
    drop(held);
    wait::until_ok("the admin is let in", MOMENT, || server.try_sql("SET GLOBAL max_user_connections = 100"));

    create(server, "hourly", &format!("{by_password} WITH MAX_QUERIES_PER_HOUR 1"));
    table.row("MAX_QUERIES_PER_HOUR 1, no query", &format!("{TCP}hourly"), UP);
    table.row("MAX_QUERIES_PER_HOUR 1, one query", &format!("{TCP}hourly"), &format!("down: cannot query: {limit}"));
}

/// An account with a password of this kind: right over both ways, wrong, and without.
fn password(table: &mut Table, plugin: &str, user: &str) {
    table.up(&format!("{plugin}, over TCP"), &format!("{TCP}{user}"), &Transport::Plain);
    table.up(&format!("{plugin}, over the socket"), &format!("{SOCKET}{user}"), &Transport::Socket);
    table.row(&format!("{plugin}, wrong password"), &format!("{WRONG}{user}"), DENIED);
    let none =
        if plugin == "parsec" { "down: cannot log in: the authentication plugin needs a password" } else { DENIED };
    table.row(&format!("{plugin}, no password"), &format!("--host=ADDRESS {NO_PASSWORD} --user={user}"), none);
}

fn on_mariadb(software: Software) {
    let scratch = Scratch::new("accounts");
    scratch.file("none.cnf", "");
    // Zero at the start cannot be changed later.
    let server = Server::start_of(software, &["max_user_connections=100"]);
    let mut table = Table::new("Accounts", &server, &scratch);
    table.row("no such account", &format!("{TCP}no_such"), DENIED);
    let vias: &[(&str, &str, &str)] = match software {
        Software::MariaDb => &[("mysql_native_password", "native", "")],
        _ => &[
            ("mysql_native_password", "native", ""),
            ("ed25519", "ed25519", "auth_ed25519"),
            ("parsec", "parsec", "auth_parsec"),
        ],
    };
    for &(plugin, user, library) in vias {
        if !library.is_empty() {
            server.sql(&format!("INSTALL SONAME '{library}'"));
        }
        create(&server, user, &format!("IDENTIFIED VIA {plugin} USING PASSWORD('{PASSWORD}')"));
        password(&mut table, plugin, user);
    }
    if software == Software::MariaDb11 {
        server.sql("INSTALL SONAME 'auth_pam_v1'");
        create(&server, "pam", "IDENTIFIED VIA pam USING 'mysqlchk'");
        let words = "down: cannot log in: authentication plugin `dialog` is not supported";
        table.row("pam", &format!("{TCP}pam"), words);
        unknown(&mut table, words);
    }
    common(&mut table, &server, "IDENTIFIED VIA unix_socket", 4151);
    create(&server, "expired", &format!("IDENTIFIED BY '{PASSWORD}' PASSWORD EXPIRE"));
    table.row("password expired", &format!("{TCP}expired"), "down: cannot query: the password has expired (1820)");
    server.sql("SET GLOBAL disconnect_on_expired_password = ON");
    table.row(
        "password expired, disconnect_on_expired_password",
        &format!("{TCP}expired"),
        "down: cannot log in: the password has expired (1862)",
    );
    table.close();
}

#[test]
fn accounts_on_mariadb_10_11() {
    on_mariadb(Software::MariaDb);
}

#[test]
fn accounts_on_mariadb_11_8() {
    on_mariadb(Software::MariaDb11);
}

/// For an account that is not there a server draws a plugin by lot, so that nobody learns which names exist: `MySQL` one
/// that it has, `MariaDB` that of another account.
fn unknown(table: &mut Table, no_plugin: &str) {
    let said = |name: &str| {
        let file = format!("--defaults-file={}", table.file("right.cnf").display());
        let host = format!("--host={}", table.server().ip());
        let user = format!("--user={name}");
        verdict_of(
            "mysqlchk-status",
            &Check::new("mysqlchk-status")
                .args([&file, &host, &user])
                .args(["--format=text", "--timeout=10s"])
                .run()
                .stdout,
        )
    };
    let names: Vec<String> = (0..24).map(|number| format!("no_such_{number}")).collect();
    let by_lot: Vec<(String, String)> = names.into_iter().map(|name| (said(&name), name)).collect();
    for verdict in [DENIED, no_plugin] {
        let found = by_lot.iter().find(|(said, _)| said == verdict);
        let (_, name) = found.unwrap_or_else(|| panic!("none of 24 names is {verdict}: {by_lot:?}"));
        table.name("NO-SUCH", name);
        table.row("no such account, plugin by lot", &format!("{TCP}NO-SUCH"), verdict);
        table.forget_name();
    }
    let by_socket = "down: cannot log in: access denied (1698)";
    let known = [DENIED, no_plugin, by_socket];
    assert!(by_lot.iter().all(|(said, _)| known.contains(&said.as_str())), "{by_lot:?}");
}

#[test]
fn accounts_on_mysql_9() {
    let scratch = Scratch::new("accounts");
    scratch.file("none.cnf", "");
    let server = Server::start_of(Software::MySql9, &[]);
    let mut table = Table::new("Accounts", &server, &scratch);
    for user in ["sha2_tcp", "sha2_socket"] {
        create(&server, user, &format!("IDENTIFIED WITH caching_sha2_password BY '{PASSWORD}'"));
    }
    create(&server, "expired", &format!("IDENTIFIED BY '{PASSWORD}' PASSWORD EXPIRE"));
    table.row("password expired", &format!("{TCP}expired"), "down: cannot log in: the password has expired (1862)");
    server.sql("SET PERSIST_ONLY disconnect_on_expired_password = OFF");
    // The server forgets what it cached: each account pays the whole exchange once, over TCP with the server's RSA key.
    server.stop();
    server.restart();
    let first = "caching_sha2_password, first login after a restart";
    let next = "caching_sha2_password, second login";
    for (how, user, transport) in [(TCP, "sha2_tcp", Transport::Plain), (SOCKET, "sha2_socket", Transport::Socket)] {
        table.row(&format!("{first}, wrong password"), &format!("{}{user}", how.replace("right", "wrong")), DENIED);
        table.up(first, &format!("{how}{user}"), &transport);
        table.up(next, &format!("{how}{user}"), &transport);
        table.row(&format!("{next}, wrong password"), &format!("{}{user}", how.replace("right", "wrong")), DENIED);
    }
    table.row("caching_sha2_password, no password", &format!("--host=ADDRESS {NO_PASSWORD} --user=sha2_tcp"), DENIED);
    table.row(
        "password expired, disconnect_on_expired_password = OFF",
        &format!("{TCP}expired"),
        "down: cannot query: the password has expired (1820)",
    );
    create(&server, "sha256", &format!("IDENTIFIED WITH sha256_password BY '{PASSWORD}'"));
    let words = "down: cannot log in: authentication plugin `sha256_password` is not supported";
    table.row("sha256_password", &format!("{TCP}sha256"), words);
    common(&mut table, &server, "IDENTIFIED WITH auth_socket", 3118);
    unknown(&mut table, words);
    table.close();
}
