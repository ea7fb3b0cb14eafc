//! Every server people really run: what each check says of it, in each situation; the rows of `docs/servers.md`.

mod accounts;
mod connections;
mod group;
mod lag;
mod recorded;
mod replication;
mod states;
mod table;
mod tls;

use std::time::Duration;

use lab::evidence::{Answer, From, Section, ask, check_mysql, stable};
use lab::server::Server;
use lab::wait;

/// `MariaDB 10.11`, `MySQL 9`: of a release that moves, the part of its version that does not.
fn name(server: &Server) -> String {
    let version = server.value("SELECT VERSION()");
    let (name, parts) = if server.software().is_mysql() { ("MySQL", 1) } else { ("MariaDB", 2) };
    let number: Vec<&str> = version.split(['.', '-']).take(parts).collect();
    format!("{name} {}", number.join("."))
}

/// Asks one check about one server, asserts what it says and notes it. `verdict` is compared without times.
#[track_caller]
fn row(section: &mut Section, server: &Server, situation: &str, check: &str, verdict: &str, with_peer: bool) -> Answer {
    let answer = ask_line(server, check);
    assert_eq!(stable(&answer.verdict), verdict, "{situation}: {check}: {answer:?}");
    let peer = with_peer.then(|| check_mysql(server));
    section.row(&name_of(server), situation, check, &answer, peer.as_deref(), From::Server);
    answer
}

/// Asks a check that is written as on the page, with its options.
#[track_caller]
fn ask_line(server: &Server, check: &str) -> Answer {
    let (program, options) = check.split_once(' ').unwrap_or((check, ""));
    ask(server, program, &options.split_whitespace().collect::<Vec<_>>())
}

/// Waits until a check says this of a server: a replica that was just wired or healed may lag for a second. `verdict` is
/// compared without times.
#[track_caller]
fn until(server: &Server, check: &str, verdict: &str) {
    wait::until_equal(check, Duration::from_secs(60), verdict.to_owned(), || stable(&ask_line(server, check).verdict));
}

/// The name, also of a server that does not answer now.
fn name_of(server: &Server) -> String {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};
    static NAMES: Mutex<BTreeMap<std::path::PathBuf, String>> = Mutex::new(BTreeMap::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.entry(server.dir().to_owned()).or_insert_with(|| name(server)).clone()
}
