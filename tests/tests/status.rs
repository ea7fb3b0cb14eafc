//! `mysqlchk-status` and a real server: each rule of its table, brought about by the server itself.
//!
//! Some need another one: `offline_mode` exists on `MySQL` only, `wsrep_ready` counts on a Galera node only (see the suite of
//! `galera-chk`), and what is set when a server starts is in the states of the suite `servers`.

use std::time::Duration;

use lab::program::{Check, Outcome, local, password};
use lab::scratch::Scratch;
use lab::server::{PASSWORD, PORT, Server};
use lab::wait;
use mysql::prelude::Queryable;

const PROGRAM: &str = "mysqlchk-status";
/// How long a server may take to come back.
const BOUND: Duration = Duration::from_secs(60);
const WRITABLE: &str = "up: the server answers, read_only is OFF";
const READ_ONLY: &str = "up: the server answers, read_only is ON";

/// Asks with time enough for a busy machine. A later argument wins over an earlier one.
fn ask(server: &Server, more: &[&str]) -> Outcome {
    Check::new(PROGRAM).args(local(server)).args(["--timeout=10s"]).args(more).run()
}

/// Asserts the whole answer: status, body, exit status, and a stderr that stays silent.
#[track_caller]
fn assert_answer(case: &str, outcome: &Outcome, verdict: &str) {
    let (status, code) = if verdict.starts_with("up: ") { (200, 0) } else { (503, 1) };
    let seen = (outcome.reply().status(), outcome.reply().body(), outcome.code, outcome.stderr.as_str());
    assert_eq!(seen, (status, format!("{verdict}\n"), Some(code), ""), "{case}");
}

#[test]
fn a_server_that_answers_is_up_whether_it_takes_writes_or_not() {
    let server = Server::start();
    assert_answer("writable", &ask(&server, &[]), WRITABLE);
    server.sql("SET GLOBAL read_only=ON");
    assert_answer("read-only", &ask(&server, &[]), READ_ONLY);
}

#[test]
fn a_server_must_take_writes_only_where_that_is_required() {
    let server = Server::start_with(&["read_only=ON"]);
    let required = ["--require-writable"];
    assert_answer("read-only from its option file", &ask(&server, &required), "down: read_only is ON, not OFF");
    assert_answer("not required after all", &ask(&server, &["--require-writable", "--require-writable=0"]), READ_ONLY);
    server.sql("SET GLOBAL read_only=OFF");
    assert_answer("made writable", &ask(&server, &required), WRITABLE);
    server.sql("SET GLOBAL read_only=ON");
    assert_answer("made read-only", &ask(&server, &required), "down: read_only is ON, not OFF");
}

#[test]
fn a_server_must_refuse_writes_only_where_that_is_required() {
    let server = Server::start();
    let required = ["--require-read-only"];
    assert_answer("writable", &ask(&server, &required), "down: read_only is OFF, not ON");
    assert_answer("not required after all", &ask(&server, &["--require-read-only", "--require-read-only=0"]), WRITABLE);
    server.sql("SET GLOBAL read_only=ON");
    assert_answer("made read-only", &ask(&server, &required), READ_ONLY);
    server.sql("SET GLOBAL read_only=OFF");
    assert_answer("made writable", &ask(&server, &required), "down: read_only is OFF, not ON");
}

/// Two sources that replicate from each other must never hand out the same value.
#[test]
fn a_source_hands_out_values_of_its_own_where_that_is_required() {
    let server = Server::start_with(&["auto_increment_increment=2", "auto_increment_offset=2"]);
    let required = ["--require-auto-increment=2/2"];
    assert_answer("as configured", &ask(&server, &required), WRITABLE);
    assert_answer(
        "the other's offset",
        &ask(&server, &["--require-auto-increment=2/1"]),
        "down: auto_increment_offset is 2, not 1",
    );
    server.sql("SET GLOBAL auto_increment_increment=1");
    let too_small = "down: auto_increment_increment is 1, not 2 or more";
    assert_answer("one of two", &ask(&server, &required), too_small);
    assert_answer("not required", &ask(&server, &[]), WRITABLE);
    server.sql("SET GLOBAL auto_increment_increment=10");
    assert_answer("room for more", &ask(&server, &required), WRITABLE);
    server.sql("SET GLOBAL read_only=ON");
    let both = [required[0], "--require-writable"];
    assert_answer("read-only comes first", &ask(&server, &both), "down: read_only is ON, not OFF");
}

#[test]
fn no_privilege_is_needed() {
    let (server, scratch) = (Server::start(), Scratch::new("status"));
    let account = [&*password(&scratch, "good.cnf", PASSWORD), "--user=nopriv"];
    assert_eq!(
        server.value("SHOW GRANTS FOR nopriv@localhost").split(" IDENTIFIED").next(),
        Some("GRANT USAGE ON *.* TO `nopriv`@`localhost`")
    );
    assert_answer("over the socket", &ask(&server, &account), WRITABLE);
    let host = format!("--host={}", server.ip());
    assert_answer("over TCP", &ask(&server, &[account[0], account[1], &host]), WRITABLE);
    server.sql("SET GLOBAL read_only=ON");
    let outcome = ask(&server, &[account[0], account[1], "--require-writable"]);
    assert_answer("read-only", &outcome, "down: read_only is ON, not OFF");
}

/// A backup that begins must not take the server out of service, and no lock of it may hold the check.
#[test]
fn a_global_read_lock_does_not_hold_the_check() {
    let server = Server::start();
    let mut session = server.session();
    session.query_drop("FLUSH TABLES WITH READ LOCK").unwrap();
    assert_answer("locked", &ask(&server, &["--require-writable"]), WRITABLE);
}

#[test]
fn a_server_that_is_gone_is_down_until_it_is_back() {
    let (server, scratch) = (Server::start(), Scratch::new("status"));
    let account = password(&scratch, "good.cnf", PASSWORD);
    let host = format!("--host={}", server.ip());
    let tcp = [&*account, "--user=mysqlchk_tcp", &host];
    let socket = server.socket().display().to_string();
    let refused = format!("down: cannot connect to {}:{PORT}: connection refused", server.ip());
    assert_answer("running, socket", &ask(&server, &[]), WRITABLE);
    assert_answer("running, TCP", &ask(&server, &tcp), WRITABLE);

    server.stop();
    let outcome = ask(&server, &[]);
    assert_answer("stopped, socket", &outcome, &format!("down: cannot connect to {socket}: no such socket"));
    assert_answer("stopped, TCP", &ask(&server, &tcp), &refused);
    server.restart();
    assert_answer("started again, socket", &ask(&server, &[]), WRITABLE);
    assert_answer("started again, TCP", &ask(&server, &tcp), WRITABLE);

    // What is killed leaves its socket behind.
    server.kill9();
    let outcome = ask(&server, &[]);
    assert_answer("killed, socket", &outcome, &format!("down: cannot connect to {socket}: connection refused"));
    assert_answer("killed, TCP", &ask(&server, &tcp), &refused);
    server.restart();
    assert_answer("recovered, socket", &ask(&server, &[]), WRITABLE);
    assert_answer("recovered, TCP", &ask(&server, &tcp), WRITABLE);
}

/// The kernel goes on accepting connections for a process that no longer runs, so only the budget ends this.
#[test]
fn a_frozen_server_is_down_within_the_budget() {
    let (server, scratch) = (Server::start(), Scratch::new("status"));
    let account = password(&scratch, "good.cnf", PASSWORD);
    let tcp = [account, "--user=mysqlchk_tcp".into(), format!("--host={}", server.ip())];
    let hung = "down: no verdict within 900ms (while logging in)";
    server.freeze();
    assert_answer("frozen, socket", &Check::new(PROGRAM).args(local(&server)).run(), hung);
    assert_answer("frozen, TCP", &Check::new(PROGRAM).args(tcp).run(), hung);
    let outcome = ask(&server, &["--timeout=1500ms"]);
    assert_answer("another budget", &outcome, "down: no verdict within 1500ms (while logging in)");
    server.thaw();
    assert_answer("thawed", &ask(&server, &[]), WRITABLE);
}

#[test]
fn a_login_that_is_refused_is_down_with_the_number() {
    let (server, scratch) = (Server::start(), Scratch::new("status"));
    let (good, wrong) = (password(&scratch, "good.cnf", PASSWORD), password(&scratch, "wrong.cnf", "wrong"));
    let host = format!("--host={}", server.ip());
    let denied = "down: cannot log in: access denied (1045)";
    for (case, more, verdict) in [
        ("the right password", vec![&*good, "--user=mysqlchk_tcp"], WRITABLE),
        ("a wrong password", vec![&*wrong, "--user=mysqlchk_tcp"], denied),
        ("a wrong password over TCP", vec![&*wrong, "--user=mysqlchk_tcp", &host], denied),
        ("no password", vec!["--user=mysqlchk_tcp"], denied),
        ("an unknown account", vec![&*good, "--user=no-such-account"], denied),
        ("a `unix_socket` account over TCP", vec![&*host], denied),
        // The default account, while the check runs as another user of the system.
        ("somebody else's `unix_socket` account", vec!["--user=mysqlchk"], "down: cannot log in: access denied (1698)"),
    ] {
        assert_answer(case, &ask(&server, &more), verdict);
    }
}

#[test]
fn an_account_that_was_taken_away_is_down_until_it_is_given_back() {
    let (server, scratch) = (Server::start(), Scratch::new("status"));
    let account = [&*password(&scratch, "good.cnf", PASSWORD), "--user=mysqlchk_tcp"];
    server.sql("ALTER USER mysqlchk_tcp@localhost ACCOUNT LOCK");
    assert_answer("locked", &ask(&server, &account), "down: cannot log in: the account is locked (4151)");
    server.sql("ALTER USER mysqlchk_tcp@localhost ACCOUNT UNLOCK PASSWORD EXPIRE");
    // The server lets it in, and refuses every statement but the one that sets a password.
    assert_answer("expired", &ask(&server, &account), "down: cannot query: the password has expired (1820)");
    server.sql("SET GLOBAL disconnect_on_expired_password=ON");
    assert_answer(
        "expired, not let in",
        &ask(&server, &account),
        "down: cannot log in: the password has expired (1862)",
    );
    server.sql(&format!("SET PASSWORD FOR mysqlchk_tcp@localhost=PASSWORD('{PASSWORD}')"));
    assert_answer("given a password", &ask(&server, &account), WRITABLE);
    // A check every second is 3600 logins an hour.
    server.sql("ALTER USER mysqlchk_tcp@localhost WITH MAX_CONNECTIONS_PER_HOUR 1");
    assert_answer("its only login of the hour", &ask(&server, &account), WRITABLE);
    let spent = "down: cannot log in: the account has reached one of its limits (1226)";
    assert_answer("one too many", &ask(&server, &account), spent);
    server.sql("ALTER USER mysqlchk_tcp@localhost WITH MAX_CONNECTIONS_PER_HOUR 0");
    assert_answer("no limit", &ask(&server, &account), WRITABLE);
}

#[test]
fn a_server_without_a_free_connection_is_down() {
    // The least that a server accepts.
    let server = Server::start_with(&["max_connections=10"]);
    let full = "down: cannot log in: too many connections (1040)";
    let until_idle = || {
        let connected = || server.status("Threads_connected");
        wait::until_equal("nobody but the admin is there", BOUND, Some("1".to_owned()), connected);
    };
    until_idle();
    // A client that was refused keeps its place until the server is rid of it.
    let hold = |_| wait::until_ok("a connection for the admin", BOUND, || server.try_session());
    let mut held: Vec<_> = (0..10).map(hold).collect();
    assert_answer("one is left, for an admin", &ask(&server, &[]), full);
    held.push(hold(10));
    assert_answer("none is left", &ask(&server, &[]), full);
    held.clear();
    until_idle();
    assert_answer("free again", &ask(&server, &[]), WRITABLE);
}

#[test]
fn the_text_form_is_one_line_and_quiet_says_only_what_is_down() {
    let server = Server::start();
    let stopped = format!("{PROGRAM}: down: cannot connect to {}: no such socket\n", server.socket().display());
    let up = format!("{PROGRAM}: {WRITABLE}\n");
    let run = |more: &[&str]| {
        let Outcome { stdout, stderr, code, .. } = ask(&server, &[&["--format=text"], more].concat());
        (stdout, stderr, code)
    };
    let seen = |stdout: &str, code| (stdout.to_owned(), String::new(), Some(code));
    assert_eq!(run(&[]), seen(&up, 0), "up");
    assert_eq!(run(&["--quiet"]), seen("", 0), "up, quiet");
    server.stop();
    assert_eq!(run(&[]), seen(&stopped, 1), "down");
    assert_eq!(run(&["--quiet"]), seen(&stopped, 1), "down, quiet");
}

#[test]
fn the_json_form_holds_what_the_rules_saw() {
    let server = Server::start();
    let assert_json = |case: &str, more: &[&str], code, parts: &[&str]| {
        let outcome = ask(&server, &[&["--format=json"], more].concat());
        for part in parts {
            assert!(outcome.stdout.contains(part), "{case}: {part} in {outcome:?}");
        }
        let seen = (outcome.stdout.lines().count(), outcome.code, outcome.stderr.as_str());
        assert_eq!(seen, (1, Some(code), ""), "{case}: {outcome:?}");
    };
    let up = [r#""program":"mysqlchk-status""#, r#""verdict":"up""#, r#""misconfigured":false"#];
    assert_json("up", &[], 0, &up);
    assert_json(
        "a writable server",
        &[],
        0,
        &[r#""reason":"the server answers, read_only is OFF""#, r#""read_only":"0""#],
    );
    // No Galera node: its `wsrep_ready` is OFF and must not count. Neither of the other two exists on MariaDB.
    let absent = [r#""wsrep_on":"0""#, r#""wsrep_ready":null"#, r#""super_read_only":null"#, r#""offline_mode":null"#];
    assert_eq!(server.status("wsrep_ready").as_deref(), Some("OFF"));
    assert_json("what a plain MariaDB lacks", &[], 0, &absent);
    assert_json("the steps it took", &[], 0, &[r#""login_us":"#, r#""query_us":"#]);
    server.sql("SET GLOBAL read_only=ON");
    let read_only = [r#""verdict":"down""#, r#""reason":"read_only is ON, not OFF""#, r#""read_only":"1""#];
    assert_json("a read-only server", &["--require-writable"], 1, &read_only);
    server.stop();
    assert_json("no server", &[], 1, &[r#""verdict":"down""#, r#""facts":null"#]);
}
