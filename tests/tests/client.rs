//! `crates/client` without a check: what a program that compares servers does with it, on a real server.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use client::command_line::{Asked, Configured, Program, parse};
use client::{Limits, Session};
use lab::server::{PASSWORD, Server};

/// A program without options of its own.
#[derive(Debug, clap::Args)]
struct Options {}

const LIMITS: Limits = Limits { connect: None, silence: None, packet: 1024 * 1024, rows: 10 };

/// A server with a table that the account may write, and how to ask it.
fn start() -> (Server, Configured<Options>) {
    let server = Server::start();
    server.sql("CREATE TABLE lab.kept (id INT PRIMARY KEY); GRANT ALL ON lab.* TO mysqlchk_tcp@localhost");
    let text = format!("[client]\nsocket={}\nuser=mysqlchk_tcp\npassword={PASSWORD}\n", server.socket().display());
    let file = lab::scratch::Scratch::new("client");
    let words = ["program".to_owned(), format!("--defaults-file={}", file.file("my.cnf", text).display())];
    let program = Program { name: "program", groups: &["mysqlchk", "program"], about: "", version: "1" };
    match parse(program, &words.map(OsString::from), &(), |_, _| ()).unwrap() {
        Asked::Run(configured) => (server, configured),
        Asked::Print(text) => panic!("{text}"),
    }
}

#[test]
fn several_sessions_run_statements_with_and_without_columns() {
    let (_server, Configured { target, account, .. }) = start();
    let mut one = Session::open(&target, &account, &LIMITS, &()).unwrap();
    let mut other = Session::open(&target, &account, &LIMITS, &()).unwrap();
    assert_eq!(one.execute("SET SESSION lock_wait_timeout = 1").unwrap(), 0);
    assert_eq!(one.execute("INSERT INTO lab.kept VALUES (1), (2), (3)").unwrap(), 3);
    let rows = other.query("SELECT COUNT(*) AS count FROM lab.kept").unwrap();
    assert_eq!(rows[0].get(&["count"]), Some("3"));
    let refused = one.execute("INSERT INTO lab.kept VALUES (1)").unwrap_err();
    assert_eq!((refused.to_string().as_str(), refused.code()), ("cannot query: error 1062", Some(1062)));
    // A refusal leaves the session as it was.
    assert_eq!(one.execute("DELETE FROM lab.kept").unwrap(), 3);
}

#[test]
fn a_session_costs_no_more_than_its_limits() {
    let (_server, Configured { target, account, .. }) = start();
    let limits = Limits { silence: Some(Duration::from_millis(200)), ..LIMITS };
    let mut session = Session::open(&target, &account, &limits, &()).unwrap();
    let many = session.query("SELECT seq FROM lab.seq_1_to_11").unwrap_err();
    assert_eq!(many.to_string(), "cannot query: more than 10 rows");
    let large = session.query("SELECT REPEAT('x', 2 * 1024 * 1024) AS text").unwrap_err();
    assert_eq!(large.to_string(), "cannot query: the answer is too large");
    let mut session = Session::open(&target, &account, &limits, &()).unwrap();
    let asked = Instant::now();
    let silent = session.query("SELECT SLEEP(60)").unwrap_err();
    assert_eq!(silent.code(), None);
    assert!(asked.elapsed() < Duration::from_secs(30), "{silent} after {:?}", asked.elapsed());
}
